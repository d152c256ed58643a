//! `weir config show` and `weir config check`.

use crate::cli::{ConfigArgs, ConfigCommand};
use crate::config::{Settings, Values, KEYS};
use crate::error::Outcome;
use crate::output::{is_terminal, Align, Table};

pub(crate) fn run(args: ConfigArgs) -> Outcome {
    match args.command {
        ConfigCommand::Show { file, origin } => {
            let values = Values::load(file.config.as_deref(), std::env::vars())?;
            out!("{}", show(&values, origin, is_terminal()));
        }
        ConfigCommand::Check { file } => {
            let values = Values::load(file.config.as_deref(), std::env::vars())?;
            crate::up::check(&Settings::from_values(&values)?)?;
            let set =
                values.iter().filter(|(_, _, o)| **o != crate::config::Origin::Default).count();
            outln!("ok: {set} values set, the rest are defaults");
        }
    }
    Ok(())
}

/// Every declared key, set or not, then what wildcards added.
fn show(values: &Values, origin: bool, dim: bool) -> String {
    let mut head = vec![("KEY", Align::Left), ("VALUE", Align::Left)];
    head.push(if origin { ("ORIGIN", Align::Left) } else { ("MEANING", Align::Left) });
    let mut table = Table::new(&head);
    let set = |name: &str| values.iter().find(|(n, ..)| *n == name);
    for key in KEYS.iter().filter(|key| !key.name.contains('*')) {
        let (value, from) = set(key.name)
            .map_or(("-".to_owned(), "-".to_owned()), |(_, value, from)| {
                (value.to_owned(), from.to_string())
            });
        let last = if origin { from } else { key.doc.to_owned() };
        table.row(vec![key.name.to_owned(), value, last]);
    }
    let declared = |name: &str| KEYS.iter().any(|key| key.name == name);
    for (name, value, from) in values.iter().filter(|(name, ..)| !declared(name)) {
        let last = if origin { from.to_string() } else { String::new() };
        table.row(vec![name.to_owned(), value.to_owned(), last]);
    }
    table.render(dim)
}
