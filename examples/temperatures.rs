//! The pipeline without prices: rooms whose temperature leaves the comfortable band, told once
//! each time that it does. Run it with `cargo run --example temperatures`.

#![allow(clippy::print_stdout, reason = "the example prints what it tells")]

use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use tripline::pipeline::Pipeline;
use tripline::pipeline::stage::{changes, each, from_stream, to_each};

struct Reading {
    room: &'static str,
    celsius: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comfort {
    Cold,
    Fine,
    Hot,
}

fn comfort(celsius: f64) -> Comfort {
    match celsius {
        celsius if celsius < 18.0 => Comfort::Cold,
        celsius if celsius > 24.0 => Comfort::Hot,
        _ => Comfort::Fine,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A source: two rooms that warm up and cool down over a day.
    let readings = (0..48).flat_map(|half_hour| {
        let warmth = (f64::from(half_hour) * std::f64::consts::PI / 24.0).sin();
        [("office", 21.0 + 5.0 * warmth), ("cellar", 16.0 + 3.0 * warmth)]
            .map(|(room, celsius)| Reading { room, celsius })
    });
    let source = from_stream(futures::stream::iter(readings).boxed());

    // A rule: how comfortable a reading is. Then only changes, room by room. Then a sink.
    Pipeline::from(source)
        .evaluate(each(|reading: Reading| {
            Some((reading.room, comfort(reading.celsius), reading.celsius))
        }))
        .dedupe(changes(|(room, comfort, _): &(&str, Comfort, f64)| (*room, *comfort)))
        .notify(to_each(|(room, comfort, celsius): &(&str, Comfort, f64)| {
            println!("{room:<7} {comfort:?} at {celsius:.1} °C");
        }))
        .run(CancellationToken::new())
        .await?;
    Ok(())
}
