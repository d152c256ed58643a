//! What the embedded broker is told of who may connect, with passwords read from where the configuration says they are.

use weir_broker::security::{ConfiguredUser, Secret};
use weir_broker::BrokerConfig;

use crate::config::Settings;
use crate::error::{Outcome, UserError};

/// Sets listeners, users and limits.
pub(super) fn apply(config: &mut BrokerConfig, settings: &Settings) -> Outcome {
    let security = &settings.broker_security;
    config.listeners.clone_from(&security.listeners);
    config.users = security
        .users
        .iter()
        .map(|user| {
            let whose = format!("the user \"{}\"", user.name);
            let password = Secret::new(user.password.read(&whose)?);
            Ok(ConfiguredUser { name: user.name.clone(), password })
        })
        .collect::<Outcome<_>>()?;
    config.connections_max = security.connections_max;
    config.connections_per_ip_max = security.connections_per_ip_max;
    config.connection_creation_rate_max = security.connection_creation_rate_max;
    config.connection_idle_ms_max = security.connections_max_idle_ms;
    config.session_ms_max = security.connections_max_reauth_ms;
    config.authentication_ms_max = security.authentication_timeout_ms;
    config.failed_authentication_delay_ms = security.failed_authentication_delay_ms;
    config.request_bytes_max = security.request_bytes_max;
    config.request_bytes_total_max = security.request_bytes_total_max;
    Ok(())
}

/// Whoever can reach an address must say who they are, or the operator must say that the network is trusted.
pub(super) fn check_exposure(settings: &Settings) -> Outcome {
    if settings.insecure_listen {
        return Ok(());
    }
    let open = "is open to other machines, and there is no authentication";
    let addresses = [
        ("broker.listen", settings.broker_listen),
        ("gateway.listen", settings.gateway_listen),
        ("console.listen", settings.console_listen),
    ];
    if let Some((name, address)) = addresses.iter().find(|(_, address)| !address.ip().is_loopback())
    {
        let help = match *name {
            "broker.listen" => "listen on 127.0.0.1 and add a listener with SASL_SSL under broker.listeners, or add --insecure-listen if the network is trusted",
            _ => "listen on 127.0.0.1, or add --insecure-listen if the network is trusted",
        };
        return Err(UserError::new("WEIR-0815", format!("{name} {address} {open}")).help(help));
    }
    for listener in &settings.broker_security.listeners {
        if let Some(why) = listener.exposure() {
            let (name, address) = (&listener.name, listener.listen);
            let what = format!("broker.listeners.{name} {address} is open to other machines");
            return Err(UserError::new("WEIR-0815", what).why(why).help(
                "use SASL_SSL, or SSL with ssl_client_auth: required; or add --insecure-listen if the network is trusted",
            ));
        }
    }
    Ok(())
}
