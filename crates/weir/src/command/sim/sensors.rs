//! `weir sim sensors`: what the sensors' arithmetic gives, by calculation and by measurement.

use serde_json::json;
use weir_sim::channel::alarms_among;
use weir_sim::scenario::ANOMALY_RATE_MAX;
use weir_sim::SensorKind;

use crate::cli::SimSensorsArgs;
use crate::error::{Outcome, UserError};
use crate::output::{Align, Table};

pub(super) fn run(args: &SimSensorsArgs) -> Outcome {
    if !(0.0..=ANOMALY_RATE_MAX).contains(&args.anomaly_rate) {
        let what = format!("--anomaly-rate: {} is not a number from 0 to 0.1", args.anomaly_rate);
        return Err(UserError::new("WEIR-0803", what).why("in --anomaly-rate"));
    }
    let mut table = Table::new(&[
        ("SENSOR", Align::Left),
        ("DISTRIBUTION", Align::Left),
        ("RANGE", Align::Left),
        ("ALARMS EXPECTED %", Align::Right),
        ("ALARMS MEASURED %", Align::Right),
    ]);
    for kind in SensorKind::ALL {
        let readings = args.readings.div_ceil(1_000).max(1) * 1_000;
        let measured =
            alarms_among(kind, args.seed, readings, args.anomaly_rate) as f64 / readings as f64;
        // The calculation is of healthy sensors.
        let expected = kind.alarm_share().filter(|_| args.anomaly_rate <= 0.0);
        if args.json {
            let line = json!({
                "sensor": kind.name(),
                "anomaly_rate": args.anomaly_rate,
                "readings": readings,
                "alarm_share_expected": expected,
                "alarm_share_measured": measured,
            });
            outln!("{line}");
            continue;
        }
        let unit = kind.unit().unwrap_or_default();
        let (distribution, range) = match kind.normal() {
            Some(normal) => (
                format!("normal, mean {} {unit}, sigma {}", normal.mean, normal.sigma),
                format!("{} to {} {unit}", normal.min, normal.max),
            ),
            None => ("ON with 0.8".to_owned(), "OFF, ON".to_owned()),
        };
        let percent = |share: f64| format!("{:.5}", share * 100.0);
        let expected = expected.map_or_else(|| "-".to_owned(), percent);
        table.row(vec![kind.name().to_owned(), distribution, range, expected, percent(measured)]);
    }
    if !args.json {
        table.print();
    }
    Ok(())
}
