//! The connections to the members: one is used until it fails, then the next.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use copyseg_core::{Error, ErrorKind, Result};
use etcd_client::{
    Certificate, Client, ConnectOptions, Error as ClientError, Identity, KvClient, TlsOptions, WatchClient,
};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::error::{Failure, Remedy, Sending};
use crate::options::{EtcdOptions, Tls};

/// The largest answer that is taken: the most records in one answer, each with the largest value, and their keys.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A client for keys that takes large answers.
pub(crate) fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// A client for changes that takes large answers.
pub(crate) fn changes(client: &Client) -> WatchClient {
    client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Every member that was named, connected to when first needed.
///
/// A client that balances over several members by itself keeps sending requests to one that is dead, so each has a
/// client of its own.
pub(crate) struct Cluster {
    members: Vec<Member>,
    /// The member in use.
    current: AtomicUsize,
    timeout: Duration,
}

struct Member {
    endpoint: String,
    options: ConnectOptions,
    client: OnceCell<Client>,
}

impl Cluster {
    /// Reads the files that the options name; connects to nothing yet.
    pub(crate) fn new(options: &EtcdOptions) -> Result<Self> {
        let mut connect = ConnectOptions::new()
            .with_timeout(options.timeout)
            .with_connect_timeout(options.timeout.min(Duration::from_secs(3)))
            // etcd takes pings closer together than 5 s, or on a connection without a request, for an attack and
            // closes the connection. An idle one is watched over by the operating system instead.
            .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
            .with_keep_alive_while_idle(false)
            .with_tcp_keepalive(Duration::from_secs(5))
            .with_require_leader(true);
        if let Some((name, password)) = &options.user {
            connect = connect.with_user(name, &password.0);
        }
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        if let Some(tls) = &options.tls {
            connect = connect.with_tls(tls_options(tls)?);
        }
        let members = options.endpoints.iter().map(|endpoint| Member {
            endpoint: format!("{scheme}://{endpoint}"),
            options: connect.clone(),
            client: OnceCell::new(),
        });
        Ok(Self { members: members.collect(), current: AtomicUsize::new(0), timeout: options.timeout })
    }

    /// Makes a request of the member in use.
    ///
    /// It goes to the next one if that is certain to do no harm: if it may be repeated, or if no part of it has been sent.
    /// A login that has expired is renewed.
    pub(crate) async fn request<T, Answer>(
        &self,
        doing: &str,
        sending: Sending,
        request: impl Fn(&Client) -> Answer,
    ) -> Result<T, Failure>
    where
        Answer: Future<Output = Result<T, ClientError>>,
    {
        // Every member once, and the first a second time: it may only have been started again meanwhile.
        let mut attempts_left = self.members.len();
        let mut may_log_in = true;
        loop {
            let index = self.current.load(Ordering::Relaxed) % self.members.len();
            let failure = match self.request_of(index, doing, sending, &request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if matches!(failure.remedy, Remedy::OtherEndpoint | Remedy::SameRequestElsewhere) {
                self.leave(index);
            }
            let again = match failure.remedy {
                Remedy::None => false,
                Remedy::FreshToken => std::mem::take(&mut may_log_in) && self.log_in(index).await,
                Remedy::OtherEndpoint => sending == Sending::Repeatable,
                Remedy::SameRequestElsewhere => true,
            };
            if !again || attempts_left == 0 {
                return Err(failure);
            }
            if failure.remedy != Remedy::FreshToken {
                attempts_left -= 1;
            }
            tracing::debug!(member = self.members[index].endpoint, "asking again: {}", failure.error.chain());
        }
    }

    async fn request_of<T, Answer>(
        &self,
        index: usize,
        doing: &str,
        sending: Sending,
        request: impl Fn(&Client) -> Answer,
    ) -> Result<T, Failure>
    where
        Answer: Future<Output = Result<T, ClientError>>,
    {
        let member = &self.members[index];
        let doing = || format!("cannot {doing} at {}", member.endpoint);
        // Connecting logs in, and sends nothing of the request.
        let client = match timeout(self.timeout, member.client()).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(not_sent(Failure::new(doing(), Sending::Repeatable, &error))),
            Err(_) => return Err(not_sent(Failure::timed_out(doing(), Sending::Repeatable, self.timeout))),
        };
        match timeout(self.timeout, request(client)).await {
            Ok(answer) => answer.map_err(|error| Failure::new(doing(), sending, &error)),
            Err(_) => Err(Failure::timed_out(doing(), sending, self.timeout)),
        }
    }

    /// Turns to the member after this one, unless another request has already done so.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.members.len();
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Renews the login; whether that worked.
    async fn log_in(&self, index: usize) -> bool {
        let Some(client) = self.members[index].client.get() else { return false };
        matches!(timeout(self.timeout, client.refresh_token()).await, Ok(Ok(())))
    }
}

impl Member {
    async fn client(&self) -> Result<&Client, ClientError> {
        self.client.get_or_try_init(|| Client::connect([&self.endpoint], Some(self.options.clone()))).await
    }
}

/// A failure to connect, whatever came of the connection, leaves the request itself unsent.
fn not_sent(failure: Failure) -> Failure {
    let remedy = match failure.remedy {
        Remedy::OtherEndpoint => Remedy::SameRequestElsewhere,
        remedy => remedy,
    };
    Failure { remedy, ..failure }
}

fn tls_options(tls: &Tls) -> Result<TlsOptions> {
    let mut options = TlsOptions::new();
    options = match &tls.ca {
        Some(file) => options.ca_certificate(Certificate::from_pem(read(file, "CERTIFICATE")?)),
        None => options.with_native_roots(),
    };
    if let Some((certificate, key)) = &tls.identity {
        options = options
            .identity(Identity::from_pem(read(certificate, "CERTIFICATE")?, read(key, "PRIVATE KEY")?));
    }
    Ok(options)
}

/// Reads a PEM file with a section of this kind; without one it would count as trusting nobody.
fn read(file: &Path, section: &str) -> Result<String> {
    let place = format!("`{}`, which the etcd options name,", file.display());
    let text = fs::read_to_string(file).map_err(|error| {
        Error::with_source(
            ErrorKind::InvalidArgument,
            format!("{place} cannot be read; check the path"),
            error,
        )
    })?;
    if !text.contains(&format!("{section}-----")) {
        let message = format!("{place} has no `{section}` in it; give a PEM file that has");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    Ok(text)
}
