//! A curve as a picture: both axes logarithmic, so that what grows in proportion is a straight line.

use std::path::Path;

use plotters::prelude::*;

use super::Curve;
use crate::Result;

const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 90, 160), RGBColor(190, 70, 20), RGBColor(90, 90, 90), RGBColor(0, 130, 70)];

/// Draws `curve` into the file at `path`.
pub(super) fn draw(curve: &Curve, path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, (760, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || curve.lines.iter().flat_map(|(_, line)| line.iter().copied());
    let range = |of: fn((f64, f64)) -> f64| {
        points().map(of).fold((f64::INFINITY, 0f64), |(min, max), it| (min.min(it), max.max(it)))
    };
    let ((left, right), (low, high)) = (range(|point| point.0), range(|point| point.1));
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}, by {}", curve.what, curve.by), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(80)
        .build_cartesian_2d((left * 0.9..right * 1.1).log_scale(), (low / 2.0..high * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(curve.by)
        .x_label_formatter(&|size| format!("{size:.0}"))
        .y_label_formatter(&|figure| curve.unit.show(*figure))
        .draw()?;
    for ((name, line), colour) in curve.lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)).point_size(3))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    Ok(area.present()?)
}
