//! `tripline.v1.Quotes`.

use futures::StreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, async_trait};

use super::{Api, fields, views};
use crate::model::Symbol;
use crate::proto::v1::quotes_server::Quotes;
use crate::proto::v1::{
    GetAverageRequest, GetAverageResponse, GetHistoryRequest, GetHistoryResponse, GetQuoteRequest,
    GetQuoteResponse, Quote, StreamQuotesRequest,
};
use crate::server::fault::Fault;
use crate::server::queries::PRICES_MAX;
use crate::server::store::Refusal;

const STREAM_SYMBOLS_MAX: usize = 1_000;

#[async_trait]
impl Quotes for Api {
    async fn get_quote(
        &self,
        request: Request<GetQuoteRequest>,
    ) -> Result<Response<GetQuoteResponse>, Status> {
        self.observed("GetQuote", async {
            let (_, message) = self.open(request).await?;
            let symbol = fields::symbol(&message.symbol)?;
            let quote = self.services.queries.quote(symbol).await?;
            let quote = quote.ok_or(Refusal::UnknownSymbol)?;
            Ok(GetQuoteResponse { quote: Some(views::quote(&quote)) })
        })
        .await
    }

    async fn get_average(
        &self,
        request: Request<GetAverageRequest>,
    ) -> Result<Response<GetAverageResponse>, Status> {
        self.observed("GetAverage", async {
            let (_, message) = self.open(request).await?;
            let symbol = fields::symbol(&message.symbol)?;
            let count = fields::count("count", message.count, None, PRICES_MAX)?;
            let average = self.services.queries.average(symbol, count).await?;
            let average = average.ok_or(Refusal::UnknownSymbol)?;
            Ok(GetAverageResponse {
                symbol: symbol.to_string(),
                average: average.price.to_string(),
                count: average.count,
            })
        })
        .await
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        self.observed("GetHistory", async {
            let (_, message) = self.open(request).await?;
            let symbol = fields::symbol(&message.symbol)?;
            let count = fields::count("count", message.count, Some(100), PRICES_MAX)?;
            let quotes = self.services.queries.history(symbol, count).await?;
            Ok(GetHistoryResponse { quotes: quotes.iter().map(views::quote).collect() })
        })
        .await
    }

    type StreamQuotesStream = BoxStream<Quote>;

    async fn stream_quotes(
        &self,
        request: Request<StreamQuotesRequest>,
    ) -> Result<Response<Self::StreamQuotesStream>, Status> {
        self.observed("StreamQuotes", async {
            let (caller, message) = self.open(request).await?;
            let found = message.symbols.len();
            if !(1..=STREAM_SYMBOLS_MAX).contains(&found) {
                return Err(Fault::invalid(format!(
                    "symbols: expected 1 to {STREAM_SYMBOLS_MAX}, found {found}"
                )));
            }
            let symbols = message.symbols.iter().map(|symbol| fields::symbol(symbol));
            let symbols = symbols.collect::<Result<Vec<Symbol>, _>>()?;
            let services = &self.services;
            let stream = services.board.stream_quotes(caller.session.user, symbols.clone())?;
            // What the board knows of a symbol decides which of its ticks count.
            for symbol in symbols {
                services.queries.quote(symbol).await?;
            }
            let stream = stream.map(|quote| quote.map(|quote| views::quote(&quote)));
            Ok(self.while_valid(caller, stream))
        })
        .await
    }
}
