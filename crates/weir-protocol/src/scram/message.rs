//! The four messages, as text. Values are checked for form, never for meaning.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

use super::MESSAGE_BYTES_MAX;

/// Why bytes are no message of SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Longer than any is.
    #[error("a SCRAM message is too long")]
    TooLong,
    /// Not UTF-8.
    #[error("a SCRAM message is no text")]
    NotText,
    /// The attribute that must come next is not there, or not in its form.
    #[error("a SCRAM message has no valid {0}")]
    Attribute(&'static str),
    /// Binding to a TLS channel is not offered.
    #[error("a SCRAM client wants channel binding")]
    ChannelBinding,
    /// `m=`: whoever does not know it must fail (RFC 5802, 5.1).
    #[error("a SCRAM message has a mandatory extension")]
    MandatoryExtension,
}

type Result<T> = std::result::Result<T, ScramError>;

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst<'a> {
    /// `n,,` or `n,a=...,`: comes again in [`ClientFinal::channel_binding`].
    pub gs2_header: &'a str,
    /// On whose behalf, if it says.
    pub authorization_id: Option<String>,
    /// Who it is.
    pub username: String,
    /// Its nonce.
    pub nonce: &'a str,
    /// The message without its header: the first part of what is signed.
    pub bare: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let text = text(bytes)?;
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Attribute("channel flag"))?;
        match flag {
            // `y`: it could bind and takes us for a server that cannot. It is right.
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Attribute("channel flag")),
        }
        let (authorization, bare) =
            rest.split_once(',').ok_or(ScramError::Attribute("authorization id"))?;
        let authorization_id = match authorization {
            "" => None,
            text => {
                let name = text.strip_prefix("a=").and_then(unescape);
                Some(name.ok_or(ScramError::Attribute("authorization id"))?)
            }
        };
        let mut attributes = bare.split(',');
        let username = attribute(&mut attributes, "n=", "user name")?;
        let username = unescape(username).ok_or(ScramError::Attribute("user name"))?;
        let nonce = nonce(&mut attributes)?;
        let gs2_header = &text[..text.len() - bare.len()];
        Ok(Self { gs2_header, authorization_id, username, nonce, bare })
    }

    /// Writes the part that is signed; before it comes `n,,`.
    #[must_use]
    pub fn write_bare(username: &str, nonce: &str) -> String {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        format!("n={username},r={nonce}")
    }
}

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFirst<'a> {
    /// The client's nonce and the server's.
    pub nonce: &'a str,
    /// The salt of the user's keys.
    pub salt: Vec<u8>,
    /// How often the password is to be hashed.
    pub iterations: u32,
}

impl<'a> ServerFirst<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// If it is none. Whether the nonce begins with the client's is the client's to check.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut attributes = text(bytes)?.split(',');
        let nonce = nonce(&mut attributes)?;
        let salt = decode(attribute(&mut attributes, "s=", "salt")?, "salt")?;
        let iterations = attribute(&mut attributes, "i=", "number of iterations")?;
        let iterations = iterations.parse().ok().filter(|count| *count > 0);
        let iterations = iterations.ok_or(ScramError::Attribute("number of iterations"))?;
        Ok(Self { nonce, salt, iterations })
    }

    /// Writes it.
    #[must_use]
    pub fn write(nonce: &str, salt: &[u8], iterations: u32) -> String {
        format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt))
    }
}

/// What a client says last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFinal<'a> {
    /// [`ClientFirst::gs2_header`] again.
    pub channel_binding: Vec<u8>,
    /// The client's nonce and the server's.
    pub nonce: &'a str,
    /// That it knows the password.
    pub proof: Vec<u8>,
    /// All before the proof: the last part of what is signed.
    pub without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let text = text(bytes)?;
        let (without_proof, proof) =
            text.rsplit_once(",p=").ok_or(ScramError::Attribute("proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attribute(&mut attributes, "c=", "channel binding")?;
        let channel_binding = decode(binding, "channel binding")?;
        let nonce = nonce(&mut attributes)?;
        Ok(Self { channel_binding, nonce, proof: decode(proof, "proof")?, without_proof })
    }

    /// Writes the part before the proof, without channel binding.
    #[must_use]
    pub fn write_without_proof(nonce: &str) -> String {
        format!("c={},r={nonce}", STANDARD.encode("n,,"))
    }

    /// Writes all of it.
    #[must_use]
    pub fn write(without_proof: &str, proof: &[u8]) -> String {
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }
}

/// What a server says last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFinal {
    /// That it knows the user's keys.
    Signature(Vec<u8>),
    /// Why it refuses.
    Error(String),
}

impl ServerFinal {
    /// Reads it.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut attributes = text(bytes)?.split(',');
        let first = attributes.next().unwrap_or_default();
        match first.strip_prefix("e=") {
            Some(error) => Ok(Self::Error(error.to_owned())),
            None => {
                let signature = first.strip_prefix("v=");
                let signature = signature.ok_or(ScramError::Attribute("signature"))?;
                decode(signature, "signature").map(Self::Signature)
            }
        }
    }

    /// Writes a signature.
    #[must_use]
    pub fn write(signature: &[u8]) -> String {
        format!("v={}", STANDARD.encode(signature))
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::TooLong);
    }
    std::str::from_utf8(bytes).map_err(|_| ScramError::NotText)
}

fn attribute<'a>(
    attributes: &mut impl Iterator<Item = &'a str>,
    prefix: &str,
    name: &'static str,
) -> Result<&'a str> {
    let next = attributes.next().unwrap_or_default();
    if next.starts_with("m=") {
        return Err(ScramError::MandatoryExtension);
    }
    next.strip_prefix(prefix).filter(|value| !value.is_empty()).ok_or(ScramError::Attribute(name))
}

/// Printable ASCII but the comma, which has ended it already.
fn nonce<'a>(attributes: &mut impl Iterator<Item = &'a str>) -> Result<&'a str> {
    let nonce = attribute(attributes, "r=", "nonce")?;
    let legal = nonce.bytes().all(|byte| byte.is_ascii_graphic());
    if legal {
        Ok(nonce)
    } else {
        Err(ScramError::Attribute("nonce"))
    }
}

fn decode(text: &str, name: &'static str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| ScramError::Attribute(name))
}

/// `=2C` and `=3D` are comma and equals sign; nothing else follows an equals sign.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        name.push(sign);
        name.push_str(rest);
    }
    (!name.is_empty()).then_some(name)
}
