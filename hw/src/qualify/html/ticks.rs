//! Where an axis is labelled: at a few round numbers, as people count.

/// Most labels an axis has room for.
const TICKS_MAX: usize = 8;

/// Round numbers (1, 2 or 5 times a power of ten) between two values, with their labels.
pub(super) fn linear((low, high): (f64, f64)) -> Vec<(f64, String)> {
    let rough = (high - low) / 5.0;
    if !(rough > 0.0 && rough.is_finite()) {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let ticks = (0..TICKS_MAX).map(|nth| first + nth as f64).take_while(|nth| *nth <= last);
    ticks.map(|nth| (nth * step, label(nth * step))).collect()
}

/// The same on an axis of decimal logarithms: powers of ten, and what lies between them where there is room.
pub(super) fn logarithmic((low, high): (f64, f64)) -> Vec<(f64, String)> {
    let within = |times: &[f64]| -> Vec<(f64, String)> {
        let powers = low.floor() as i32..=high.ceil() as i32;
        let all = powers.flat_map(|power| times.iter().map(move |times| times * 10f64.powi(power)));
        let places = all.map(|value| (value.log10(), label(value)));
        places.filter(|(place, _)| *place >= low - 1e-9 && *place <= high + 1e-9).collect()
    };
    let choices = [within(&[1.0, 2.0, 5.0]), within(&[1.0])];
    choices.into_iter().find(|ticks| ticks.len() <= TICKS_MAX).unwrap_or_default()
}

/// As short as it goes; thousands and millions are marked.
fn label(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{unit}", (scaled * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: Vec<(f64, String)>) -> Vec<String> {
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn axes_are_labelled_at_round_numbers() {
        assert_eq!(labels(linear((0.0, 247.8))), ["0", "50", "100", "150", "200"]);
        assert_eq!(labels(linear((0.0098, 1.0))), ["0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(linear((0.0, 62_000.0))), ["0", "20k", "40k", "60k"]);
        assert_eq!(labels(logarithmic((0.0, 32f64.log10()))), ["1", "2", "5", "10", "20"]);
        assert_eq!(labels(logarithmic((1.0, 6.4))), ["10", "100", "1000", "10k", "100k", "1M"]);
        assert!(linear((1.0, 1.0)).is_empty() && linear((f64::NAN, 1.0)).is_empty());
    }
}
