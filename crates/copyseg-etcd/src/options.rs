//! What can be chosen when a catalog is opened.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use copyseg_core::{Error, ErrorKind, Limits, Result};

use crate::keys::Keys;

/// Where the cluster is and how to talk to it; the same as the parts of an `etcd:` URL.
///
/// ```
/// use std::time::Duration;
///
/// use copyseg_etcd::EtcdOptions;
///
/// # fn main() -> copyseg_core::Result<()> {
/// let options = EtcdOptions::new(["10.0.0.1:2379", "10.0.0.2:2379"])
///     .prefix("restores/eu")
///     .timeout(Duration::from_secs(2));
/// let same = EtcdOptions::from_url("etcd://10.0.0.1:2379,10.0.0.2:2379/restores/eu?timeout_ms=2000")?;
/// assert_eq!(options, same);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EtcdOptions {
    /// The members' client addresses as `host:port`, at least one. One is used until it fails.
    pub endpoints: Vec<String>,
    /// What every key begins with, after a slash. Each store needs a prefix of its own. Default `copyseg`.
    pub prefix: String,
    /// User and password, if the cluster has authentication on.
    pub user: Option<(String, Password)>,
    /// TLS, if the members' client addresses are `https`.
    pub tls: Option<Tls>,
    /// How long a request may take. Default 5 s.
    pub timeout: Duration,
    /// How long a leader that is dead or cut off keeps others from taking over, in whole seconds. Default 10 s.
    pub lease: Duration,
    /// The servers' `--max-txn-ops`, at least 33. Default 128, as theirs.
    pub max_txn_ops: usize,
    /// The servers' `--max-request-bytes`. Default 1.5 MiB, as theirs.
    pub max_request_bytes: usize,
    /// Whether the writer removes history older than five minutes, without which the cluster fills up. That is the
    /// history of the whole cluster, so switch it off where others share it and count on their history, or where the
    /// servers run with `--auto-compaction-retention`. Default yes.
    pub compact: bool,
}

/// How to tell that a server is the right one, and how it can tell the same of this client. The files are read at
/// opening.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tls {
    /// PEM file with the certificates that may sign a server's; none means those that the system trusts.
    pub ca: Option<PathBuf>,
    /// PEM files with this client's certificate and its key, if the servers ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A password, which is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub(crate) String);

impl From<String> for Password {
    fn from(password: String) -> Self {
        Self(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl EtcdOptions {
    /// The default options for a cluster whose members are at `endpoints`, each `host:port`.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: "copyseg".into(),
            user: None,
            tls: None,
            timeout: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            max_txn_ops: 128,
            max_request_bytes: 3 << 19,
            compact: true,
        }
    }

    /// Sets [`prefix`](Self::prefix).
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets [`user`](Self::user).
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Password>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Switches TLS on, trusting what the system trusts unless [`ca`](Self::ca) says otherwise.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls.get_or_insert_default();
        self
    }

    /// Switches TLS on, trusting only servers whose certificates those in this PEM file have signed.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.get_or_insert_default().ca = Some(file.into());
        self
    }

    /// Switches TLS on, with a certificate for this client: two PEM files.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.get_or_insert_default().identity = Some((certificate.into(), key.into()));
        self
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`lease`](Self::lease).
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets [`max_txn_ops`](Self::max_txn_ops).
    #[must_use]
    pub fn max_txn_ops(mut self, operations: usize) -> Self {
        self.max_txn_ops = operations;
        self
    }

    /// Sets [`max_request_bytes`](Self::max_request_bytes).
    #[must_use]
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.max_request_bytes = bytes;
        self
    }

    /// Sets [`compact`](Self::compact).
    #[must_use]
    pub fn compact(mut self, compact: bool) -> Self {
        self.compact = compact;
        self
    }

    /// Refuses what cannot work, whatever the cluster is like.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse =
            |what: &str| Err(Error::new(ErrorKind::InvalidArgument, format!("etcd options: {what}")));
        if self.endpoints.is_empty() {
            return refuse("there is no endpoint; give at least one `host:port`");
        }
        let prefix = &self.prefix;
        if prefix.is_empty() || prefix.starts_with('/') || prefix.ends_with('/') {
            return refuse("the prefix is empty, or has a slash at one of its ends");
        }
        if prefix.len() > Keys::PREFIX_BYTES_MAX || prefix.contains(char::is_control) {
            return refuse("the prefix is longer than 256 bytes, or has control characters in it");
        }
        if self.timeout.is_zero() {
            return refuse("a request needs some time; give a `timeout_ms` of at least 1");
        }
        if self.lease < Duration::from_secs(2) {
            return refuse("a lease of less than 2 s ends by itself; give a longer `lease_s`");
        }
        let limits = self.limits();
        if limits.operations_max < Limits::OPERATIONS_MIN || limits.bytes_max < Limits::BYTES_MIN {
            let operations = Limits::OPERATIONS_MIN + 1;
            let overhead = self.overhead(limits.operations_max.max(Limits::OPERATIONS_MIN));
            let bytes = overhead.saturating_add(Limits::BYTES_MIN);
            return refuse(&format!(
                "a request must take {operations} operations and {bytes} bytes or more; raise `max_txn_ops` and \
                 `max_request_bytes`, here and at the servers"
            ));
        }
        Ok(())
    }

    /// What fits into one request beside the write of the head.
    pub(crate) fn limits(&self) -> Limits {
        let operations_max = self.max_txn_ops.saturating_sub(1);
        let bytes_max = self.max_request_bytes.saturating_sub(self.overhead(operations_max));
        Limits { operations_max, bytes_max, commits_max: 2 }
    }

    /// What a request of so many operations and the head takes besides what [`Limits::bytes_max`] counts.
    fn overhead(&self, operations: usize) -> usize {
        // `Operation::size` counts 32 bytes for a key; the key itself and the tags and lengths around it take more.
        let keys = Keys::new(&self.prefix);
        let per_operation = (keys.record_length() + 20).saturating_sub(32);
        let user = self.user.as_ref().map_or(0, |(name, _)| name.len());
        let head = 1024 + 3 * keys.head().len() + user;
        operations.saturating_mul(per_operation).saturating_add(head)
    }
}
