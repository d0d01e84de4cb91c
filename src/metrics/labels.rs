//! The labels of the series.

use prometheus_client::encoding::EncodeLabelSet;

/// The labels of the original's series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Service {
    pub(super) uservice: &'static str,
    pub(super) hostname: String,
}

/// The labels of the original's `response_time_seconds`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Function {
    pub(super) uservice: &'static str,
    pub(super) hostname: String,
    pub(super) function: &'static str,
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($field:ident),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name {
            $(/// The label of this name.
            pub $field: &'static str),+
        }
    };
}
label!(
    /// One stage of the graph: `collect`, `evaluate`, `notify`, `deliver`.
    Stage { stage }
);
label!(
    /// What became of something, from a fixed set of words.
    Outcome { outcome }
);
label!(
    /// Why a tick was refused: `future`, `currency`, `price`, `symbol`, `unknown`.
    Reason { reason }
);
label!(
    /// A peer outside: `market`, `mail`.
    Peer { peer }
);

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TopicPartition {
    /// The topic.
    pub topic: &'static str,
    /// The partition.
    pub partition: u32,
}

/// A topic, whatever its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Topic {
    /// The topic.
    pub topic: String,
}

/// A broker of Kafka's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KafkaBroker {
    /// Its id.
    pub broker: i32,
}

/// A symbol; only as many as the option allows get a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SymbolLabel {
    /// The symbol.
    pub symbol: String,
}
