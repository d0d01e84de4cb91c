//! Readers of CSV files.

use tripline::csv_input::{ReadError, Row, Ticks, Watches};
use tripline::model::PolicyKind;

use super::{check_message, spec_texts, texts};

/// Items of a file that has no quotes: as many as lines with text below the header's.
fn check_items<T>(data: &[u8], items: &[Result<Row<T>, ReadError>]) {
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let mut before = 1;
    for item in items {
        let line = match item {
            Ok(row) => row.line,
            Err(ReadError::Row(error)) => error.line,
            Err(error) => panic!("bytes in memory can be read: {error}"),
        };
        assert!(line > before, "line {line} after line {before}");
        before = line;
        if let Err(error) = item {
            check_message(error);
            assert!(error.to_string().starts_with(&format!("f.csv:{line}: ")), "{error}");
        }
    }
    if !data.contains(&b'"') {
        let lines = data.split(|byte| *byte == b'\n');
        let texts = lines.filter(|line| !line.strip_suffix(b"\r").unwrap_or(line).is_empty());
        assert_eq!(items.len() + 1, texts.count(), "a line was dropped");
    }
}

/// Files of ticks.
pub fn ticks_csv(data: &[u8]) {
    let ticks = match Ticks::new("f.csv", data) {
        Ok(ticks) => ticks,
        Err(error) => return check_message(&error),
    };
    let items: Vec<_> = ticks.collect();
    check_items(data, &items);
    let mut copy = String::from("symbol,price,time\n");
    let good: Vec<_> = items.iter().flatten().map(|row| row.value).collect();
    for tick in &good {
        copy += &format!("{},{},{}\n", tick.symbol, tick.price, tick.time);
    }
    let again = Ticks::new("f.csv", copy.as_bytes()).expect("the header is good");
    let again: Vec<_> = again.map(|row| row.expect("what was printed can be read").value).collect();
    assert_eq!(again, good);
}

pub(crate) fn ticks_csv_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "time,symbol,price\n2000-03-01T14:30:00Z,a,1.50\n2000-03-01T14:30:01Z,B/C,2",
        "\u{feff}\"price\",time,symbol\r\n\r\n\"1\",2000-03-01T15:30:00+01:00,\"A\"\r\n1,2,3,4\r\n",
        "time,symbol,price\n2000-03-01T14:30:00Z,\"A\n\"\"\",1\n2000-03-01T14:30:00Z,A,0\n\"",
        "time,symbol,Prise\n",
    ])
}

/// Files of watches.
pub fn watches_csv(data: &[u8]) {
    let watches = match Watches::new("f.csv", data, PolicyKind::Step) {
        Ok(watches) => watches,
        Err(error) => return check_message(&error),
    };
    let items: Vec<_> = watches.collect();
    check_items(data, &items);
    let good: Vec<_> = items.into_iter().flatten().map(|row| row.value).collect();
    let mut copy = String::from("email,symbol,low,high,policy,step,hysteresis,cooldown\n");
    for (email, spec) in &good {
        let [low, high, policy, step, hysteresis, cooldown] = spec_texts(spec);
        let email = email.as_str().replace('"', "\"\"");
        let symbol = spec.symbol();
        copy +=
            &format!("\"{email}\",{symbol},{low},{high},{policy},{step},{hysteresis},{cooldown}\n");
    }
    let again = Watches::new("f.csv", copy.as_bytes(), PolicyKind::Once);
    let again = again.expect("the header is good");
    let again: Vec<_> = again.map(|row| row.expect("what was printed can be read").value).collect();
    assert_eq!(again, good);
}

pub(crate) fn watches_csv_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "email,symbol,low,high\nAnn@x.org,aapl,1,2\nb@x,A,,\n",
        "cooldown,hysteresis,step,policy,high,low,symbol,email\n60,0.5,5,crossing,2,1,A,a@x\n\
         ,0,5,step,2,1,A,a@x\n010,9,9,once,2,,A,a@x\n,,0.1,,,1,A,\"a,\"\"@x\"\n",
        "email,symbol,low,high,policy\na@x,A,2,1,Step\na@x,A,2.0,2,step\n",
    ])
}
