//! The ends of sixteen intervals at once, exact or rounded inwards to 32-bit floats.

/// How many watches a leaf holds, and how many kids an inner node has.
pub(super) const FANOUT: usize = 16;

/// How many floats are compared at once by any x86-64 or ARM64 machine. The functions below
/// are written in such lanes because the compiler makes vector code of this form only.
const LANES: usize = 4;

/// The places where something holds, as bits.
#[inline]
pub(super) fn mask(values: &[f32; FANOUT], holds: impl Fn(f32) -> bool) -> u32 {
    const BITS: [u32; FANOUT] = {
        let mut bits = [0; FANOUT];
        let mut at = 0;
        while at < FANOUT {
            bits[at] = 1 << at;
            at += 1;
        }
        bits
    };
    let mut lanes = [0; LANES];
    for (values, bits) in values.chunks_exact(LANES).zip(BITS.chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] |= if holds(values[lane]) { bits[lane] } else { 0 };
        }
    }
    lanes.iter().fold(0, |all, lane| all | lane)
}

/// The extreme value by some choice between two.
#[inline]
pub(super) fn extreme(values: &[f32; FANOUT], choose: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [values[0]; LANES];
    for values in values.chunks_exact(LANES) {
        for lane in 0..LANES {
            lanes[lane] = choose(values[lane], lanes[lane]);
        }
    }
    lanes.into_iter().fold(lanes[0], choose)
}

/// The least 32-bit float that is not under `units`; no bound at all stays none.
#[expect(clippy::cast_precision_loss, reason = "the loss is what is corrected")]
pub(super) fn round_up(units: i64) -> f32 {
    if units == i64::MIN {
        return f32::NEG_INFINITY;
    }
    let float = units as f32;
    if (float as i64) < units { float.next_up() } else { float }
}

/// The greatest 32-bit float that is not over `units`; no bound at all stays none.
#[expect(clippy::cast_precision_loss, reason = "the loss is what is corrected")]
pub(super) fn round_down(units: i64) -> f32 {
    if units == i64::MAX {
        return f32::INFINITY;
    }
    let float = units as f32;
    if float as i64 > units { float.next_down() } else { float }
}

/// As [`mask`], of exact bounds.
#[inline]
pub(super) fn exact_mask(values: &[i64; FANOUT], holds: impl Fn(i64) -> bool) -> u32 {
    (0..FANOUT).fold(0, |mask, at| mask | u32::from(holds(values[at])) << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_bounds_are_never_wider_than_the_exact_ones() {
        for exponent in 0..63 {
            for near in -3..=3 {
                let units = (1i64 << exponent).saturating_add(near);
                assert!(round_up(units) as i128 >= i128::from(units), "{units}");
                assert!(round_down(units) as i128 <= i128::from(units), "{units}");
                assert!(round_up(-units) as i128 >= i128::from(-units), "-{units}");
            }
        }
        assert!(round_up(i64::MAX) >= round_down(i64::MAX - 1));
        assert_eq!(round_down(i64::MIN), -9_223_372_036_854_775_808.0);
    }
}
