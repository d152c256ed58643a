//! `weir config show` and `weir config check`.

use serde_json::json;

use crate::cli::{ConfigArgs, ConfigCommand, ConfigShowArgs};
use crate::config::{Settings, Values, KEYS};
use crate::error::Outcome;
use crate::output::{Align, Table};

pub(crate) fn run(args: ConfigArgs) -> Outcome {
    match args.command {
        ConfigCommand::Show(args) => show(&args, &crate::up::values(&args.up)?),
        ConfigCommand::Check(args) => {
            let values = crate::up::values(&args)?;
            crate::up::check(&Settings::from_values(&values)?)?;
            let set =
                values.iter().filter(|(_, _, o)| **o != crate::config::Origin::Default).count();
            match set {
                1 => outln!("ok: 1 value set, the rest are defaults"),
                _ => outln!("ok: {set} values set, the rest are defaults"),
            }
            let unused: Vec<&str> = values.unused_variables().collect();
            if !unused.is_empty() {
                outln!("not used: {}", unused.join(", "));
            }
            let passed_over: Vec<&str> = values.passed_over_variables().collect();
            if !passed_over.is_empty() {
                outln!("passed over (of a Kubernetes Service): {}", passed_over.join(", "));
            }
            for (key, why) in values.without_effect() {
                outln!("no effect: {key}: {why}");
            }
        }
    }
    Ok(())
}

fn show(args: &ConfigShowArgs, values: &Values) {
    let rows = rows(values);
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({"key": row.key, "value": row.value, "origin": row.origin,
                       "meaning": row.meaning})
            })
            .collect();
        outln!("{}", json!(rows));
        return;
    }
    let last = if args.origin { "ORIGIN" } else { "MEANING" };
    let head = [("KEY", Align::Left), ("VALUE", Align::Left), (last, Align::Left)];
    let mut table = Table::new(&head);
    for row in rows {
        let last = if args.origin { row.origin } else { Some(row.meaning.to_owned()) };
        let shown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row(vec![row.key, shown(row.value), shown(last)]);
    }
    table.print();
}

struct Row {
    key: String,
    /// `None`: not set.
    value: Option<String>,
    origin: Option<String>,
    meaning: &'static str,
}

/// Every declared key, set or not, then what wildcards added, then variables that nothing uses,
/// whose values are not shown: one is a password.
fn rows(values: &Values) -> Vec<Row> {
    let set = |name: &str| values.iter().find(|(n, ..)| *n == name);
    let declared = KEYS.iter().filter(|key| !key.name.contains('*')).map(|key| {
        let found = set(key.name);
        Row {
            key: key.name.to_owned(),
            value: found.map(|(_, value, _)| value.to_owned()),
            origin: found.map(|(_, _, origin)| origin.to_string()),
            meaning: key.doc,
        }
    });
    let added = values.iter().filter(|(name, ..)| KEYS.iter().all(|key| key.name != *name));
    let added = added.map(|(name, value, origin)| Row {
        key: name.to_owned(),
        value: Some(value.to_owned()),
        origin: Some(origin.to_string()),
        meaning: crate::config::meaning(name),
    });
    let unused = values.unused_variables().map(|name| Row {
        key: name.to_owned(),
        value: Some("***".to_owned()),
        origin: Some("environment".to_owned()),
        meaning: "not used: the store is SQLite",
    });
    declared.chain(added).chain(unused).collect()
}
