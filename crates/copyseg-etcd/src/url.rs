//! Options from a URL. It names several hosts, so a general parser of URLs does not take it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use std::{env, fs};

use copyseg_core::{Error, ErrorKind, Result};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::options::{EtcdOptions, Password};

/// The environment variable with the password of the user in a URL.
const PASSWORD_VARIABLE: &str = "COPYSEG_ETCD_PASSWORD";

const PORT: &str = "2379";

/// What means something else in a URL.
const RESERVED: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b'@').add(b' ');

impl EtcdOptions {
    /// Reads `etcd://[USER@]HOST[:PORT],…[/PREFIX][?OPTION=VALUE&…]`.
    ///
    /// Options are `tls=on|off`, `ca`, `cert` and `key` (PEM files; each switches TLS on), `password_file`,
    /// `timeout_ms`, `lease_s`, `max_txn_ops`, `max_request_bytes` and `compact=on|off`. A password is never part of the URL:
    /// it comes from the environment variable `COPYSEG_ETCD_PASSWORD` or from `password_file`. Characters that mean
    /// something in a URL are written as `%` and two hexadecimal digits.
    ///
    /// ```
    /// use copyseg_etcd::EtcdOptions;
    ///
    /// # fn main() -> copyseg_core::Result<()> {
    /// let options = EtcdOptions::from_url("etcd://[::1]:2379,backup/restores?ca=/etc/etcd/ca.pem&compact=off")?;
    /// assert_eq!(options.endpoints, ["[::1]:2379", "backup:2379"]);
    /// assert_eq!(options.prefix, "restores");
    /// assert!(options.tls.is_some() && !options.compact);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the URL has another form or the password cannot be read.
    pub fn from_url(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("etcd://").ok_or_else(|| {
            invalid("it does not begin with `etcd://`; write `etcd://host:2379,host2:2379/prefix`")
        })?;
        // A password may hold any character, so that none of what is before an `@` may be shown.
        let user_info = rest.rsplit_once('@').map_or("", |(before, _)| before);
        if user_info.contains([':', '/', '?']) {
            return Err(invalid(&format!(
                "a password does not belong into it; put it into the environment variable {PASSWORD_VARIABLE} or a \
                 file named by `password_file`, and write `%40` for any other `@`"
            )));
        }
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, prefix) = location.split_once('/').unwrap_or((location, ""));
        let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
        let endpoints = hosts.split(',').map(endpoint).collect::<Result<Vec<_>>>()?;
        let mut options = Self::new(endpoints);
        let prefix = decode("prefix", prefix.trim_end_matches('/'))?;
        if !prefix.is_empty() {
            options.prefix = prefix;
        }
        let mut query =
            Query { cert: None, key: None, tls: true, password_file: None, options }.parse(query)?;
        if !user_info.is_empty() {
            query.user(decode("user", user_info)?)?;
        } else if query.password_file.is_some() {
            return Err(invalid("it has a `password_file` and no user; write `etcd://USER@host:2379`"));
        }
        query.finish()
    }

    /// The URL of the store, without user and options: the same however its members are ordered.
    ///
    /// ```
    /// # fn main() -> copyseg_core::Result<()> {
    /// let options = copyseg_etcd::EtcdOptions::from_url("etcd://b:2379,a/restores?tls=on")?;
    /// assert_eq!(options.store_url(), "etcd://a:2379,b:2379/restores");
    /// # Ok(())
    /// # }
    /// ```
    pub fn store_url(&self) -> String {
        let mut endpoints: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.to_lowercase()).collect();
        endpoints.sort();
        endpoints.dedup();
        format!("etcd://{}/{}", endpoints.join(","), utf8_percent_encode(&self.prefix, RESERVED))
    }
}

/// The address in `text`, with a port.
fn endpoint(text: &str) -> Result<String> {
    let refuse = || invalid(&format!("`{text}` is not a host; write `host:2379` or `[::1]:2379`"));
    let after_host = match text.strip_prefix('[') {
        Some(address) => address.split_once(']').ok_or_else(refuse)?.1,
        None => text.find(':').map_or("", |colon| &text[colon..]),
    };
    let host = &text[..text.len() - after_host.len()];
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]%".contains(c);
    if host.is_empty() || !host.chars().all(allowed) {
        return Err(refuse());
    }
    match after_host.strip_prefix(':') {
        None if after_host.is_empty() => Ok(format!("{host}:{PORT}")),
        Some(port) if u16::from_str(port).is_ok() => Ok(text.to_owned()),
        _ => Err(refuse()),
    }
}

/// What has been read of the options in a URL.
struct Query {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    tls: bool,
    password_file: Option<PathBuf>,
    options: EtcdOptions,
}

impl Query {
    fn parse(mut self, query: &str) -> Result<Self> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.set(name, &decode(name, value)?)?;
        }
        Ok(self)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let options = &mut self.options;
        match name {
            "tls" => {
                self.tls = switch(name, value)?;
                if self.tls {
                    options.tls.get_or_insert_default();
                }
            }
            "ca" => options.tls.get_or_insert_default().ca = Some(file(name, value)?),
            "cert" => self.cert = Some(file(name, value)?),
            "key" => self.key = Some(file(name, value)?),
            "password_file" => self.password_file = Some(file(name, value)?),
            "timeout_ms" => options.timeout = Duration::from_millis(number(name, value)?),
            "lease_s" => options.lease = Duration::from_secs(number(name, value)?),
            "max_txn_ops" => options.max_txn_ops = number(name, value)?,
            "max_request_bytes" => options.max_request_bytes = number(name, value)?,
            "compact" => options.compact = switch(name, value)?,
            _ => {
                return Err(invalid(&format!(
                    "there is no option `{name}`; there are tls, ca, cert, key, password_file, timeout_ms, \
                     lease_s, max_txn_ops, max_request_bytes and compact"
                )));
            }
        }
        Ok(())
    }

    fn user(&mut self, name: String) -> Result<()> {
        let password = match &self.password_file {
            Some(path) => fs::read_to_string(path).map_err(|error| {
                let message = format!("etcd URL: cannot read the password file `{}`", path.display());
                Error::with_source(ErrorKind::InvalidArgument, message, error)
            })?,
            None => env::var(PASSWORD_VARIABLE).map_err(|_| {
                invalid(&format!(
                    "the user has no password; set the environment variable {PASSWORD_VARIABLE}, or name a file by \
                     `password_file`"
                ))
            })?,
        };
        // Editors end a file with a line break.
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        self.options.user = Some((name, Password(password)));
        Ok(())
    }

    fn finish(mut self) -> Result<EtcdOptions> {
        match (self.cert, self.key) {
            (None, None) => {}
            (Some(certificate), Some(key)) => self.options = self.options.identity(certificate, key),
            _ => return Err(invalid("`cert` and `key` go together; give both or neither")),
        }
        if !self.tls && self.options.tls.is_some() {
            return Err(invalid(
                "`tls=off` and the certificates contradict each other; leave one of them out",
            ));
        }
        self.options.check()?;
        Ok(self.options)
    }
}

fn file(name: &str, value: &str) -> Result<PathBuf> {
    if value.is_empty() {
        return Err(invalid(&format!("`{name}` names no file")));
    }
    Ok(value.into())
}

fn switch(name: &str, value: &str) -> Result<bool> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(invalid(&format!("`{name}` is neither `on` nor `off`"))),
    }
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N> {
    value.parse().map_err(|_| invalid(&format!("`{name}` is not a whole number in range")))
}

fn decode(what: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| invalid(&format!("its {what} is not UTF-8")))
}

/// Says what is wrong, and shows the URL to nobody: it may have a password in it.
fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("etcd URL: {what}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::one_host("etcd://a", &["a:2379"], "copyseg")]
    #[case::hosts_and_ports("etcd://a:1,b,c.d:65535/x", &["a:1", "b:2379", "c.d:65535"], "x")]
    #[case::addresses("etcd://[::1],[fe80::1%25eth0]:1,10.0.0.1/x/y/", &["[::1]:2379", "[fe80::1%25eth0]:1", "10.0.0.1:2379"], "x/y")]
    #[case::escapes("etcd://a/x%20y%3F", &["a:2379"], "x y?")]
    fn a_url_names_hosts_and_a_prefix(#[case] url: &str, #[case] endpoints: &[&str], #[case] prefix: &str) {
        let options = EtcdOptions::from_url(url).unwrap();
        assert_eq!(options, EtcdOptions::new(endpoints.to_vec()).prefix(prefix));
    }

    #[test]
    fn every_option_can_be_in_a_url() {
        let url = "etcd://a/x?tls=on&ca=/ca%20file&cert=c.pem&key=k.pem&timeout_ms=250&lease_s=30&max_txn_ops=1000\
                   &max_request_bytes=4000000&compact=off";
        let options = EtcdOptions::new(["a:2379"])
            .prefix("x")
            .ca("/ca file")
            .identity("c.pem", "k.pem")
            .timeout(Duration::from_millis(250))
            .lease(Duration::from_secs(30))
            .max_txn_ops(1000)
            .max_request_bytes(4_000_000)
            .compact(false);
        assert_eq!(EtcdOptions::from_url(url).unwrap(), options);
        assert_eq!(EtcdOptions::from_url("etcd://a?tls=on").unwrap(), EtcdOptions::new(["a:2379"]).tls());
        assert_eq!(EtcdOptions::from_url("etcd://a?tls=off").unwrap(), EtcdOptions::new(["a:2379"]));
    }

    #[test]
    fn a_password_comes_from_a_file_and_is_not_shown() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hunter2\n").unwrap();
        let url = format!("etcd://ad%40min@a:1/x?password_file={}", file.path().display());
        let options = EtcdOptions::from_url(&url).unwrap();
        assert_eq!(options.user, Some(("ad@min".into(), Password("hunter2".into()))));
        assert!(!format!("{options:?} {options:#?}").contains("hunter2"));
    }

    #[rstest]
    #[case::in_the_url("etcd://user:hunter2@a/x")]
    #[case::with_a_slash("etcd://user:/hunter2@a/x")]
    #[case::with_a_question_mark("etcd://user:?hunter2@a/x")]
    #[case::with_an_at("etcd://user:@hunter2@a/x")]
    #[case::as_an_option("etcd://a/x?password=hunter2")]
    #[case::after_another_mistake("etcd://user:hunter2@:0/x?tls=maybe")]
    #[case::of_another_scheme("etc://user:hunter2@a/x")]
    fn a_password_in_a_url_is_refused_and_not_shown(#[case] url: &str) {
        let error = EtcdOptions::from_url(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(!error.chain().contains("hunter2"), "{error:?}");
    }

    #[rstest]
    #[case::no_host("etcd://", "is not a host")]
    #[case::an_empty_host("etcd://a,,b", "is not a host")]
    #[case::no_port("etcd://a:", "`a:` is not a host")]
    #[case::a_large_port("etcd://a:65536", "`a:65536` is not a host")]
    #[case::two_ports("etcd://a:1:2", "is not a host")]
    #[case::an_open_bracket("etcd://[::1:2379", "is not a host")]
    #[case::after_a_bracket("etcd://[::1]2379", "is not a host")]
    #[case::a_nested_scheme("etcd://http://a:1", "is not a host")]
    #[case::an_empty_segment("etcd://a//x", "a slash at one of its ends")]
    #[case::a_control_character("etcd://a/x%00", "control characters")]
    #[case::not_utf8("etcd://a/%FF", "not UTF-8")]
    #[case::unknown_option("etcd://a?timeout=5", "no option `timeout`; there are tls, ca")]
    #[case::not_a_number("etcd://a?timeout_ms=5s", "`timeout_ms` is not a whole number")]
    #[case::no_time("etcd://a?timeout_ms=0", "`timeout_ms` of at least 1")]
    #[case::a_short_lease("etcd://a?lease_s=1", "longer `lease_s`")]
    #[case::no_switch("etcd://a?compact=yes", "`compact` is neither `on` nor `off`")]
    #[case::half_an_identity("etcd://a?cert=c.pem", "go together")]
    #[case::contradiction("etcd://a?tls=off&ca=ca.pem", "contradict each other")]
    #[case::no_file("etcd://a?ca=", "`ca` names no file")]
    #[case::too_few_operations("etcd://a?max_txn_ops=2", "raise `max_txn_ops`")]
    #[case::one_operation_too_few("etcd://a?max_txn_ops=32", "33 operations")]
    #[case::too_few_bytes("etcd://a?max_request_bytes=100000", "raise `max_txn_ops` and `max_request_bytes`")]
    #[case::file_without_user("etcd://a?password_file=x", "and no user")]
    #[case::missing_file("etcd://me@a?password_file=/nowhere/at/all", "`/nowhere/at/all`")]
    fn a_url_of_another_form_is_refused_with_a_hint(#[case] url: &str, #[case] hint: &str) {
        let error = EtcdOptions::from_url(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(hint), "{error}");
    }
}
