//! What a mail says: one alert in a subject, in plain text and in HTML.

use crate::model::{Alert, Condition, Email};

use super::Mail;

/// The mail that tells `alert` to `to`. A pure function, so that a repeated mail says the same.
///
/// Every field printed is a checked value without line breaks, so no text can add a header.
pub fn compose(alert: &Alert, to: &Email) -> Mail {
    let (symbol, price, threshold) = (alert.symbol, alert.price, alert.threshold);
    let (condition, time) = (alert.id.condition, alert.id.time);
    // "Stands" and not "rose": a step watch tells again while the price stays beyond the line.
    let sentence = match condition {
        Condition::Above => format!(
            "{symbol} has crossed your high threshold of {threshold} upwards: \
             it stands above it, at {price}."
        ),
        Condition::Below => format!(
            "{symbol} has crossed your low threshold of {threshold} downwards: \
             it stands below it, at {price}."
        ),
    };
    let rows = [
        ("Ticker", symbol.to_string()),
        ("Price", price.to_string()),
        ("Threshold", threshold.to_string()),
        ("Condition", condition.to_string()),
        ("Time", time.to_string()),
    ];
    let mut text = format!("{sentence}\n\n");
    // No colours: the reader's own suit light and dark alike.
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n</head>\n\
         <body style=\"font-family: sans-serif\">\n<p>{}</p>\n<table>\n",
        escape(&sentence)
    );
    for (name, value) in rows {
        text.push_str(&format!("{name}: {value}\n"));
        html.push_str(&format!(
            "<tr><th align=\"left\">{name}</th><td>{}</td></tr>\n",
            escape(&value)
        ));
    }
    html.push_str("</table>\n</body>\n</html>\n");
    Mail {
        alert: Some(alert.id),
        to: to.clone(),
        subject: format!("Ticker: {symbol} {condition} {threshold} at {price}"),
        text,
        html,
        message_id: alert.id.to_string(),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AlertId, UserId, Version, WatchId};

    fn alert(symbol: &str, condition: Condition) -> Alert {
        Alert {
            id: AlertId {
                watch: WatchId(17),
                version: Version(1),
                time: "2000-03-01T14:30:00Z".parse().unwrap(),
                condition,
            },
            user: UserId(1),
            symbol: symbol.parse().unwrap(),
            price: "118.560".parse().unwrap(),
            threshold: "110".parse().unwrap(),
        }
    }

    #[test]
    fn a_mail_says_what_was_crossed_in_which_direction_and_when() {
        let to = "Ann@example.com".parse().unwrap();
        let mail = compose(&alert("AAPL", Condition::Above), &to);
        assert_eq!(mail.subject, "Ticker: AAPL above 110 at 118.56");
        assert_eq!(mail.message_id, "17-1-951921000000-above");
        assert_eq!(mail.to.as_str(), "Ann@example.com");
        assert_eq!(
            mail.text.lines().collect::<Vec<_>>(),
            [
                "AAPL has crossed your high threshold of 110 upwards: it stands above it, \
                 at 118.56.",
                "",
                "Ticker: AAPL",
                "Price: 118.56",
                "Threshold: 110",
                "Condition: above",
                "Time: 2000-03-01T14:30:00Z",
            ]
        );
        let below = compose(&alert("AAPL", Condition::Below), &to);
        assert!(below.text.contains("low threshold of 110 downwards"), "{}", below.text);
        assert!(below.text.contains("\nCondition: below\n"), "{}", below.text);
    }

    #[test]
    fn symbols_are_escaped_in_html_and_only_there() {
        let mail = compose(&alert("M&M.NS", Condition::Above), &"a@b".parse().unwrap());
        assert!(mail.html.contains("<td>M&amp;M.NS</td>"), "{}", mail.html);
        assert!(!mail.html.contains("M&M"), "{}", mail.html);
        assert!(mail.text.contains("\nTicker: M&M.NS\n"), "{}", mail.text);
        assert!(mail.subject.starts_with("Ticker: M&M.NS "), "{}", mail.subject);
        assert_eq!(escape("<a b=\"c\">"), "&lt;a b=&quot;c&quot;&gt;");
    }

    #[test]
    fn no_field_can_add_a_header() {
        let text = ["A\r\nBcc: x", "A\n", "A\u{85}", "A\u{2028}B", "A\0"];
        for bad in text {
            assert!(bad.parse::<crate::model::Symbol>().is_err(), "{bad:?}");
            assert!(format!("{bad}@b").parse::<Email>().is_err(), "{bad:?}");
        }
    }
}
