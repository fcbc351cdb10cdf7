//! Requests to the leader, from processes that must not acquire the store while it lives.
//!
//! A request is a key under a lease of whoever asks, so that it goes when nobody waits for it any more. The leader
//! carries it out and replaces it by an answer under the same lease. A leader that ends in between leaves the request to
//! the next one, so that it may be carried out twice: only what may be repeated can be asked for.

mod serving;

use std::time::Duration;

use copyseg_core::{Error, ErrorKind, JobId, Result};
use etcd_client::{EventType, PutOptions, WatchFilterType, WatchOptions, WatchStream};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use self::serving::serve;

use crate::cluster::{changes, kv};
use crate::error::Sending;
use crate::store::Store;

/// How long to wait before trying again what the cluster did not do.
const RETRY: Duration = Duration::from_millis(500);

/// How much longer a request lies there than is waited for its answer, should nobody take it away.
const LEASE_SLACK: Duration = Duration::from_secs(5);

/// What the leader can be asked for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    CancelJob { job: JobId, reason: String },
}

/// What the leader answers: nothing, or why it did not do it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    refused: Option<Refusal>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refusal {
    kind: String,
    message: String,
}

/// The kinds that an answer can have, by their names. The others are about the leader, such as that it is closed, and say
/// nothing of the request.
const KINDS: [ErrorKind; 10] = [
    ErrorKind::NotFound,
    ErrorKind::InvalidArgument,
    ErrorKind::IllegalTransition,
    ErrorKind::SetAside,
    ErrorKind::TooLarge,
    ErrorKind::QuotaExceeded,
    ErrorKind::Unavailable,
    ErrorKind::Corrupt,
    ErrorKind::Unsupported,
    ErrorKind::OutcomeUnknown,
];

impl Answer {
    fn new(result: &Result<()>) -> Self {
        let refusal = |error: &Error| {
            let kind = KINDS.into_iter().find(|kind| *kind == error.kind());
            let kind = kind.unwrap_or(ErrorKind::OutcomeUnknown).as_str().into();
            Refusal { kind, message: error.chain() }
        };
        Self { refused: result.as_ref().err().map(refusal) }
    }

    /// What was answered; a kind that only newer versions know says nothing for sure.
    fn result(self) -> Result<()> {
        let Some(Refusal { kind, message }) = self.refused else { return Ok(()) };
        let known = KINDS.into_iter().find(|known| known.as_str() == kind);
        Err(Error::new(known.unwrap_or(ErrorKind::OutcomeUnknown), message))
    }
}

/// Asks the leader and waits for its answer.
pub(crate) async fn ask(store: &Store, request: &Request, time: Duration) -> Result<()> {
    let request = serde_json::to_vec(request).map_err(|error| {
        Error::with_source(ErrorKind::InvalidArgument, "the request cannot be written", error)
    })?;
    let deadline = Instant::now() + time;
    let lease = loop {
        match store.grant(time + LEASE_SLACK).await {
            Ok(lease) => break lease,
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(error) => wait_after(error).await?,
        }
    };
    let answered = timeout_at(deadline, answer(store, lease, &request)).await;
    // Takes away request and answer; otherwise they go with the lease.
    let _ = store.revoke(lease).await;
    answered.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::OutcomeUnknown,
            format!(
                "the leader of the store in etcd has not answered within {} s, so it may have done what it was asked \
                 for or not: look, or ask again",
                time.as_secs_f32()
            ),
        ))
    })
}

/// Puts the request there and waits until it is answered, through whatever failures of the cluster.
async fn answer(store: &Store, lease: i64, request: &[u8]) -> Result<()> {
    // No two leases of a cluster have the same number.
    let name = format!("{lease:016x}");
    while let Err(error) = store.put(store.keys.request(&name), request, lease).await {
        wait_after(error).await?;
    }
    let key = store.keys.answer(&name);
    loop {
        match look_for(store, &key).await {
            Ok(Some(answer)) => {
                let answer: Answer = serde_json::from_slice(&answer).map_err(|error| {
                    Error::with_source(
                        ErrorKind::OutcomeUnknown,
                        "the answer of the leader is garbled",
                        error,
                    )
                })?;
                return answer.result();
            }
            Ok(None) => {}
            Err(error) => wait_after(error).await?,
        }
    }
}

/// The value of the key, waiting until it changes if there is none yet.
async fn look_for(store: &Store, key: &str) -> Result<Option<Vec<u8>>> {
    let answer = store.cluster.request("look for an answer", Sending::Repeatable, |client| {
        let (mut kv, key) = (kv(client), key.to_owned());
        async move { kv.get(key, None).await }
    });
    let answer = answer.await?;
    if let Some(found) = answer.kvs().first() {
        return Ok(Some(found.value().to_vec()));
    }
    let read_at = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
    let mut watch = store.watch_puts(key, read_at + 1).await?;
    wait_for_put(&mut watch).await;
    Ok(None)
}

/// Waits until something was put, or a while if that cannot be seen.
async fn wait_for_put(watch: &mut WatchStream) {
    loop {
        match watch.message().await {
            Ok(Some(message))
                if message.events().iter().any(|event| event.event_type() == EventType::Put) =>
            {
                return;
            }
            // The first one only says that the watch has begun.
            Ok(Some(message)) if !message.canceled() => {}
            _ => return sleep(RETRY).await,
        }
    }
}

/// Waits if what failed may work when it is done again.
async fn wait_after(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::OutcomeUnknown => {
            tracing::debug!("asking the leader again: {}", error.chain());
            sleep(RETRY).await;
            Ok(())
        }
        _ => Err(error),
    }
}

impl Store {
    async fn put(&self, key: String, value: &[u8], lease: i64) -> Result<()> {
        let answer = self.cluster.request("ask the leader", Sending::Once, |client| {
            let (mut kv, key) = (kv(client), key.clone());
            async move { kv.put(key, value, Some(PutOptions::new().with_lease(lease))).await }
        });
        answer.await?;
        Ok(())
    }

    /// Begins to watch what is put at keys that begin with `prefix`, from `revision` on.
    async fn watch_puts(&self, prefix: &str, revision: i64) -> Result<WatchStream> {
        let answer = self.cluster.request("watch requests", Sending::Repeatable, |client| {
            let options = WatchOptions::new()
                .with_prefix()
                .with_start_revision(revision)
                .with_filters([WatchFilterType::NoDelete]);
            let mut changes = changes(client);
            async move { changes.watch(prefix, Some(options)).await }
        });
        Ok(answer.await?)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Ok(()))]
    #[case(Err(Error::new(ErrorKind::NotFound, "there is no job 7")))]
    #[case(Err(Error::new(ErrorKind::OutcomeUnknown, "it ended")))]
    fn an_answer_comes_as_it_was_given(#[case] given: Result<()>) {
        let answer = serde_json::to_vec(&Answer::new(&given)).unwrap();
        let got = serde_json::from_slice::<Answer>(&answer).unwrap().result();
        let told = |result: Result<()>| result.map_err(|error| (error.kind(), error.to_string()));
        assert_eq!(told(got), told(given));
    }

    #[test]
    fn requests_keep_their_form() {
        let request = Request::CancelJob { job: JobId(7), reason: "enough".into() };
        let text = r#"{"cancel_job":{"job":"7","reason":"enough"}}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
    }

    #[test]
    fn a_refusal_of_a_kind_that_is_not_known_here_leaves_the_outcome_open() {
        let answer: Answer =
            serde_json::from_str(r#"{"refused":{"kind":"of_later","message":"m"}}"#).unwrap();
        assert_eq!(answer.result().unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    }
}
