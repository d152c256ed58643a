//! The macro that declares messages. Its form is described in [`super`].

/// Declares the messages of one API: types, defaults, [`Wire`](crate::Wire) and
/// [`Request`](crate::Request).
///
/// The other forms are for data without an API, whose version stands in front of it.
macro_rules! messages {
    (
        api $key:ident, versions $first:literal..=$last:literal;
        request $request:ident $request_body:tt
        $(struct $request_part:ident $request_part_body:tt)*
        response $response:ident $response_body:tt
        $(struct $response_part:ident $response_part_body:tt)*
    ) => {
        wire_struct! { ($key, $first..=$last) $request $request_body }
        $(wire_struct! { ($key) $request_part $request_part_body })*
        wire_struct! { ($key, $first..=$last) $response $response_body }
        $(wire_struct! { ($key) $response_part $response_part_body })*

        impl $crate::api::Request for $request {
            const API_KEY: $crate::ApiKey = $crate::ApiKey::$key;
            const VERSIONS: ::std::ops::RangeInclusive<i16> = $first..=$last;
            type Response = $response;
        }
    };
    (always flexible; $(struct $name:ident $body:tt)+) => {
        $(wire_struct! { (always) $name $body })+
    };
    (never flexible; $(struct $name:ident $body:tt)+) => {
        $(wire_struct! { () $name $body })+
    };
}

/// One struct of [`messages!`]. The parenthesis holds the API, and for a whole message its
/// versions.
macro_rules! wire_struct {
    (
        $scope:tt $name:ident {$(
            $field:ident: $type:ty
                $([versions $($versions:tt)+])?
                $([nullable $($nullable:tt)+])?
                $([tag $tag:literal])?
                $(= $default:expr)?;
        )*}
    ) => {
        #[doc = concat!("`", stringify!($name), "` of Kafka's schema.")]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: wire_struct!(@default $type, $($default)?),)* }
            }
        }

        impl $crate::primitive::Struct for $name {}

        #[allow(unused_variables, unused_mut)] // A struct may have no field, or no tagged one.
        impl $crate::Wire for $name {
            fn encode(&self, encoder: &mut $crate::Encoder, version: i16) {
                wire_struct!(@check_encode $scope, encoder, version);
                let flexible = wire_struct!(@flexible $scope, version);
                $(wire_struct!(
                    @put [$($tag)?] self.$field, encoder,
                    wire_struct!(@has version, $($($versions)+)?),
                    wire_struct!(@layout version, flexible, $($($nullable)+)?)
                );)*
                if flexible {
                    let mut count = 0_u32;
                    $(wire_struct!(
                        @count [$($tag)?] self.$field, count,
                        wire_struct!(@has version, $($($versions)+)?),
                        wire_struct!(@default $type, $($default)?)
                    );)*
                    encoder.uvarint(count);
                    if count > 0 {
                        $(wire_struct!(
                            @put_tagged [$($tag)?] self.$field, encoder,
                            wire_struct!(@has version, $($($versions)+)?),
                            wire_struct!(@layout version, flexible, $($($nullable)+)?),
                            wire_struct!(@default $type, $($default)?)
                        );)*
                    }
                }
            }

            fn decode(
                decoder: &mut $crate::Decoder,
                version: i16,
            ) -> Result<Self, $crate::DecodeError> {
                wire_struct!(@check_decode $scope, version);
                let flexible = wire_struct!(@flexible $scope, version);
                let mut message = Self {$(
                    $field: wire_struct!(
                        @take [$($tag)?] $type, decoder,
                        wire_struct!(@has version, $($($versions)+)?),
                        wire_struct!(@layout version, flexible, $($($nullable)+)?),
                        wire_struct!(@default $type, $($default)?)
                    ),
                )*};
                if flexible {
                    decoder.tagged_fields(|decoder, tag| {
                        $(wire_struct!(
                            @take_tagged [$($tag)?] message.$field, $type, decoder, tag,
                            wire_struct!(@has version, $($($versions)+)?),
                            wire_struct!(@layout version, flexible, $($($nullable)+)?)
                        );)*
                        Ok(false)
                    })?;
                }
                Ok(message)
            }
        }

        #[cfg(test)]
        #[allow(unused_variables)]
        impl $crate::api::sample::Sample for $name {
            fn sample(
                random: &mut $crate::api::sample::Random,
                layout: $crate::primitive::Layout,
            ) -> Self {
                let version = layout.version;
                Self {$(
                    $field: if wire_struct!(@has version, $($($versions)+)?) {
                        let layout = wire_struct!(@layout version, layout.flexible, $($($nullable)+)?);
                        <$type as $crate::api::sample::Sample>::sample(random, layout)
                    } else {
                        wire_struct!(@default $type, $($default)?)
                    },
                )*}
            }
        }
    };

    (@default $type:ty,) => { <$type as $crate::primitive::Field>::default_value() };
    (@default $type:ty, $default:expr) => { $default };

    (@has $version:ident,) => { true };
    (@has $version:ident, $($versions:tt)+) => { ($($versions)+).contains(&$version) };

    (@layout $version:ident, $flexible:expr, $($nullable:tt)*) => {
        $crate::primitive::Layout {
            version: $version,
            flexible: $flexible,
            nullable: wire_struct!(@has $version, $($nullable)*),
        }
    };

    (@flexible (), $version:ident) => { false };
    (@flexible (always), $version:ident) => { true };
    (@flexible ($key:ident $(, $versions:expr)?), $version:ident) => {
        $version >= const { $crate::ApiKey::$key.flexible_from() }
    };

    (@check_encode ($key:ident, $versions:expr), $encoder:ident, $version:ident) => {
        $crate::api::check_encode_version($encoder, $crate::ApiKey::$key, &($versions), $version);
    };
    (@check_encode $scope:tt, $encoder:ident, $version:ident) => {};

    (@check_decode ($key:ident, $versions:expr), $version:ident) => {
        $crate::api::check_decode_version($crate::ApiKey::$key, &($versions), $version)?;
    };
    (@check_decode $scope:tt, $version:ident) => {};

    (@put [] $self:ident.$field:ident, $encoder:ident, $has:expr, $layout:expr) => {
        if $has {
            $crate::primitive::Field::put(&$self.$field, $encoder, $layout);
        }
    };
    (@put [$tag:literal] $($rest:tt)*) => {};

    (@count [] $($rest:tt)*) => {};
    (@count [$tag:literal] $self:ident.$field:ident, $count:ident, $has:expr, $default:expr) => {
        $count += u32::from($has && $self.$field != $default);
    };

    (@put_tagged [] $($rest:tt)*) => {};
    (
        @put_tagged [$tag:literal] $self:ident.$field:ident, $encoder:ident,
        $has:expr, $layout:expr, $default:expr
    ) => {
        if $has && $self.$field != $default {
            $encoder.tagged_field($tag, |encoder| {
                $crate::primitive::Field::put(&$self.$field, encoder, $layout);
            });
        }
    };

    (@take [] $type:ty, $decoder:ident, $has:expr, $layout:expr, $default:expr) => {
        if $has { <$type as $crate::primitive::Field>::take($decoder, $layout)? } else { $default }
    };
    (@take [$tag:literal] $type:ty, $decoder:ident, $has:expr, $layout:expr, $default:expr) => {
        $default
    };

    (@take_tagged [] $($rest:tt)*) => {};
    (
        @take_tagged [$known:literal] $message:ident.$field:ident, $type:ty, $decoder:ident, $tag:ident,
        $has:expr, $layout:expr
    ) => {
        if $tag == $known && $has {
            $message.$field = <$type as $crate::primitive::Field>::take($decoder, $layout)?;
            return Ok(true);
        }
    };
}
