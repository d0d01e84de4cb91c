//! A mail as an RFC 5322 message.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Message, MultiPart, SinglePart};

use crate::model::{Email, Timestamp};
use crate::pipeline::notify::Mail;

/// RFC 5322 allows lines of 998 bytes without their end.
const LINE_MAX: usize = 998;

/// The message with CRLF line ends, or why there is none. The same mail at the same instant
/// gives the same bytes.
pub(super) fn render(mail: &Mail, from: &Mailbox, at: Timestamp) -> Result<Vec<u8>, String> {
    let id = &mail.message_id;
    if id.is_empty() || id.len() > 200 || !id.bytes().all(is_id_byte) {
        return Err(format!("expected a message id of A-Z a-z 0-9 . _ -, found {id:?}"));
    }
    let millis = u64::try_from(at.millis()).unwrap_or(0);
    let subject: String =
        mail.subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let builder = Message::builder()
        .from(from.clone())
        .subject(subject)
        .date(UNIX_EPOCH + Duration::from_millis(millis))
        .message_id(Some(format!("<{id}@{}>", from.email.domain())));
    let builder = match address(&mail.to) {
        Some(to) => builder.to(Mailbox::new(None, to)),
        // Not sendable over SMTP, but told all the same where nobody has to parse it. An
        // address has no line breaks, so this adds no header.
        None => {
            let envelope = Envelope::new(Some(from.email.clone()), vec![from.email.clone()])
                .map_err(|error| error.to_string())?;
            let name = HeaderName::new_from_ascii_str("To");
            builder.raw_header(HeaderValue::new(name, mail.to.to_string())).envelope(envelope)
        }
    };
    let parts = MultiPart::alternative()
        // The library would draw one, and the same mail would differ from time to time.
        .boundary(format!("tripline-{:.60}", id))
        .singlepart(part(ContentType::TEXT_PLAIN, &mail.text))
        .singlepart(part(ContentType::TEXT_HTML, &mail.html));
    builder.multipart(parts).map(|message| message.formatted()).map_err(|error| error.to_string())
}

/// ASCII goes out as it is, so that its lines can be read in the source: the library would pick
/// quoted-printable for a line over 76 characters, and that turns `EURUSD=X` into `EURUSD=3DX`.
fn part(content_type: ContentType, text: &str) -> SinglePart {
    let literal = text.is_ascii()
        && !text.contains(['\r', '\0'])
        && text.lines().all(|line| line.len() <= LINE_MAX);
    let body = if literal {
        let lines = text.replace('\n', "\r\n").into_bytes();
        Body::dangerous_pre_encoded(lines, ContentTransferEncoding::SevenBit)
    } else {
        Body::new(text.to_owned())
    };
    SinglePart::builder().header(content_type).body(body)
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The address as SMTP knows it, if it is one: the rules there are stricter than ours.
pub(super) fn address(email: &Email) -> Option<Address> {
    email.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(to: &str, subject: &str) -> Mail {
        Mail {
            alert: None,
            to: to.parse().unwrap(),
            subject: subject.to_owned(),
            text: "Ticker: AAPL\nPrice: 118.56\n".to_owned(),
            html: "<p>AAPL</p>\n".to_owned(),
            message_id: "17-1--5-above".to_owned(),
        }
    }

    fn rendered(mail: &Mail) -> String {
        let from = "Tripline <tripline@example.com>".parse().unwrap();
        let at = "2000-03-01T14:30:00Z".parse().unwrap();
        String::from_utf8(render(mail, &from, at).unwrap()).unwrap()
    }

    #[test]
    fn headers_and_plain_lines_are_literal() {
        let text = rendered(&mail("Ann@example.com", "Ticker: AAPL above 110"));
        for line in [
            "From: Tripline <tripline@example.com>",
            "To: Ann@example.com",
            "Subject: Ticker: AAPL above 110",
            "Date: Wed, 01 Mar 2000 14:30:00 +0000",
            "Message-ID: <17-1--5-above@example.com>",
            "MIME-Version: 1.0",
            "Ticker: AAPL",
            "Price: 118.56",
        ] {
            assert!(text.split("\r\n").any(|found| found == line), "{line} is missing in {text}");
        }
        assert!(text.contains("multipart/alternative"), "{text}");
        assert_eq!(text, rendered(&mail("Ann@example.com", "Ticker: AAPL above 110")));
    }

    #[test]
    fn long_lines_do_not_change_the_others() {
        let text = format!("{}\nTicker: EURUSD=X\n", "long ".repeat(30));
        let found = rendered(&Mail { text: text.clone(), ..mail("a@b.c", "x") });
        assert!(found.contains(&text.replace('\n', "\r\n")), "{found}");
        let unusual =
            Mail { text: format!("{}\nGröße\n", "x".repeat(999)), ..mail("a@b.c", "x") };
        assert!(rendered(&unusual).lines().all(|line| line.is_ascii() && line.len() <= LINE_MAX));
    }

    #[test]
    fn nothing_can_add_a_header() {
        let text = rendered(&mail("a@b", "x\r\nBcc: y@z"));
        assert!(!text.contains("\nBcc"), "{text}");
        let bad = Mail { message_id: "a>\r\nBcc: y".to_owned(), ..mail("a@b", "x") };
        let from = "t@example.com".parse().unwrap();
        let error = render(&bad, &from, Timestamp::default()).unwrap_err();
        assert!(error.starts_with("expected a message id"), "{error}");
    }

    #[test]
    fn addresses_that_smtp_refuses_are_rendered_all_the_same() {
        for odd in ["a..b@x", "<a@x", "a\"b@x,y", "ü@x..y"] {
            assert!(address(&odd.parse().unwrap()).is_none(), "{odd}");
            let text = rendered(&mail(odd, "x"));
            assert!(text.contains("\r\nTo: ") && text.contains("\r\nTicker: AAPL\r\n"), "{text}");
        }
    }
}
