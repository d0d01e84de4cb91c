//! Files of watches: `email,symbol,low,high` and optionally `policy,step,hysteresis,cooldown`.

use std::io::Read;

use super::records::{Columns, Fields, Records};
use super::{FileError, ReadError, Row};
use crate::model::{Email, PolicyKind, WatchSpec};

const COLUMNS: Columns = Columns {
    required: &["email", "symbol", "low", "high"],
    optional: &["policy", "step", "hysteresis", "cooldown"],
};
const EMAIL: usize = 0;
const SYMBOL: usize = 1;
const LOW: usize = 2;
const HIGH: usize = 3;
const POLICY: usize = 4;
const STEP: usize = 5;
const HYSTERESIS: usize = 6;
const COOLDOWN: usize = 7;

/// The watches of a file, in its order. An empty field means none or the default.
pub struct Watches<R> {
    records: Records<R>,
    policy_default: PolicyKind,
}

impl<R: Read> Watches<R> {
    /// Reads the header of `input`, which messages call `file`. A row that names no policy
    /// has `policy_default`.
    pub fn new(file: &str, input: R, policy_default: PolicyKind) -> Result<Self, FileError> {
        Ok(Self { records: Records::new(file, input, &COLUMNS)?, policy_default })
    }
}

impl<R: Read> Iterator for Watches<R> {
    type Item = Result<Row<(Email, WatchSpec)>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let policy_default = self.policy_default;
        self.records.next(|fields| watch(fields, policy_default))
    }
}

fn watch(fields: &Fields<'_>, policy_default: PolicyKind) -> Result<(Email, WatchSpec), String> {
    let email = fields.value(EMAIL)?;
    let symbol = fields.value(SYMBOL)?;
    let (low, high) = (fields.option(LOW)?, fields.option(HIGH)?);
    let policy = fields.option(POLICY)?.unwrap_or(policy_default);
    // A parameter that the policy does not use is read all the same: a typo there is one.
    let policy = policy.with(fields.option(STEP)?, fields.option(HYSTERESIS)?);
    let cooldown_s = cooldown_s(fields.text(COOLDOWN)?)?;
    let spec = WatchSpec::new(symbol, low, high, policy, cooldown_s);
    Ok((email, spec.map_err(|error| error.to_string())?))
}

fn cooldown_s(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("cooldown: expected whole seconds, such as 3600, found {text:?}"));
    }
    text.parse().map_err(|_| {
        format!("cooldown: expected at most {} seconds, found {text}", WatchSpec::COOLDOWN_S_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Policy;

    fn read(input: &str, policy_default: PolicyKind) -> Vec<String> {
        match Watches::new("w.csv", input.as_bytes(), policy_default) {
            Err(error) => vec![format!("fatal {error}")],
            Ok(watches) => watches
                .map(|row| match row {
                    Ok(Row { line, value: (email, spec) }) => {
                        let show = |price: Option<_>| {
                            price.map_or("none".to_owned(), |price: crate::model::Price| {
                                price.to_string()
                            })
                        };
                        let policy = match spec.policy() {
                            Policy::Crossing { hysteresis } => format!("crossing {hysteresis}"),
                            Policy::Step { step } => format!("step {step}"),
                            Policy::Once => "once".to_owned(),
                        };
                        let (low, high) = (show(spec.low()), show(spec.high()));
                        let (symbol, cooldown_s) = (spec.symbol(), spec.cooldown_s());
                        format!("{line} {email} {symbol} {low} {high} {policy} {cooldown_s}")
                    }
                    Err(error) => error.to_string(),
                })
                .collect(),
        }
    }

    #[test]
    fn an_empty_or_absent_field_means_none_or_the_default() {
        let input = "email,symbol,low,high\nAnn@x.org,aapl,1,2\nb@x,A,,\n";
        let expected = ["2 Ann@x.org AAPL 1 2 crossing 0 0", "3 b@x A none none crossing 0 0"];
        assert_eq!(read(input, PolicyKind::Crossing), expected);
        let expected = ["2 Ann@x.org AAPL 1 2 step 1 0", "3 b@x A none none step 1 0"];
        assert_eq!(read(input, PolicyKind::Step), expected);

        let input = "cooldown,hysteresis,step,policy,high,low,symbol,email\n\
            60,0.5,5,crossing,2,1,A,a@x\n,0,5,step,2,1,A,a@x\n010,9,9,once,2,,A,a@x\n,,0.1,,,1,A,a@x\n";
        assert_eq!(
            read(input, PolicyKind::Step),
            [
                "2 a@x A 1 2 crossing 0.5 60",
                "3 a@x A 1 2 step 5 0",
                "4 a@x A none 2 once 10",
                "5 a@x A 1 none step 0.1 0",
            ]
        );
    }

    #[test]
    fn every_field_is_checked_whether_or_not_the_policy_uses_it() {
        for (row, reason) in [
            ("a,A,1,2,,,,", "email: expected an e-mail address"),
            (",A,1,2,,,,", "email: expected an e-mail address"),
            ("a@x,,1,2,,,,", "symbol: expected 1 to 32 of"),
            ("a@x,A,x,2,,,,", "low: expected digits[.digits]"),
            ("a@x,A,1,0,,,,", "high: expected a number greater than 0, found 0"),
            ("a@x,A,2,2.0,,,,", "expected low < high, found low 2 and high 2"),
            ("a@x,A,3,2,,,,", "expected low < high, found low 3 and high 2"),
            ("a@x,A,1,2,Step,,,", "policy: expected the policy crossing, step or once"),
            ("a@x,A,1,2,once,0,,", "step: expected a number greater than 0, found 0"),
            ("a@x,A,1,2,crossing,-1,,", "step: expected digits[.digits]"),
            ("a@x,A,1,2,step,,-1,", "hysteresis: expected digits[.digits]"),
            ("a@x,A,1,2,,,,1.0", "cooldown: expected whole seconds"),
            ("a@x,A,1,2,,,,+1", "cooldown: expected whole seconds"),
            ("a@x,A,1,2,,,,-1", "cooldown: expected whole seconds"),
            ("a@x,A,1,2,,,, 1", "cooldown: expected whole seconds"),
            ("a@x,A,1,2,,,,10000000000", "expected a cooldown of at most 9999999999 seconds"),
            ("a@x,A,1,2,,,,99999999999999999999", "cooldown: expected at most 9999999999 seconds"),
            ("a@x,A,1,2", "expected 8 fields, as the header has, found 4"),
        ] {
            let input = format!(
                "email,symbol,low,high,policy,step,hysteresis,cooldown\n{row}\nb@x,A,1,2,,,,\n"
            );
            let found = read(&input, PolicyKind::Crossing);
            assert_eq!(found.len(), 2, "{row:?}");
            assert!(found[0].starts_with(&format!("w.csv:2: {reason}")), "{row:?}: {found:?}");
            assert!(found[1].starts_with("3 b@x"), "{found:?}");
        }
    }

    #[test]
    fn the_nearest_column_is_named() {
        for (header, nearest) in
            [("e-mail", "email"), ("Policy", "policy"), ("histeresis", "hysteresis")]
        {
            let found = read(&format!("symbol,low,high,{header}\n"), PolicyKind::Once);
            let end = format!("found {header:?}; the nearest is {nearest:?}");
            assert!(
                found[0].starts_with("fatal w.csv:1: ") && found[0].ends_with(&end),
                "{found:?}"
            );
        }
    }
}
