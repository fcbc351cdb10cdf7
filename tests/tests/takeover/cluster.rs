//! A restore whose catalog is in etcd members of its own.

use std::ops::Range;

use copyseg_test_etcd::{Member, Server};
use copyseg_tests::{Command, Running, Stage};
use serde_json::Value;

/// How long a leader that stands still counts as alive: longer than a busy machine takes to start a process.
const LEASE_S: u32 = 20;

/// The exit code where there is no store yet.
const NOT_FOUND: i32 = 3;

/// A stage, and the members that its catalog is in.
pub(crate) struct Cluster {
    pub(crate) stage: Stage,
    pub(crate) members: Vec<Member>,
    url: String,
    lease_s: u32,
}

impl Cluster {
    /// On one member.
    pub(crate) fn new(stage: Stage) -> Self {
        Self::of(1, stage)
    }

    /// On one member, with a leader that still counts as alive when it has stood still for nearly so long.
    pub(crate) fn with_lease(stage: Stage, lease_s: u32) -> Self {
        let mut cluster = Self { lease_s, ..Self::new(stage) };
        cluster.name(0..1);
        cluster
    }

    /// On so many members, all of which serve.
    pub(crate) fn of(members: usize, stage: Stage) -> Self {
        let mut members = Member::cluster(&Server::of_test(), members, &[]);
        members.iter_mut().for_each(Member::serves);
        let mut cluster = Self { stage, members, url: String::new(), lease_s: LEASE_S };
        cluster.name(0..cluster.members.len());
        cluster
    }

    /// From now on names these members alone.
    pub(crate) fn name(&mut self, members: Range<usize>) {
        let endpoints: Vec<_> = self.members[members].iter().map(|member| member.endpoint.as_str()).collect();
        let (endpoints, lease_s) = (endpoints.join(","), self.lease_s);
        self.url = format!("etcd://{endpoints}/copyseg?lease_s={lease_s}&timeout_ms=20000");
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        self.stage.command(line).env("COPYSEG_CATALOG", &self.url)
    }

    /// A restore that has copied some segments, but not all, and stands still.
    pub(crate) fn leader(&self) -> Running {
        self.stage.stopped(|| {
            // Of one that was over too soon, its record is in the members still.
            let gc = self.command("gc --retention 0s").run();
            assert!(matches!(gc.code, 0 | NOT_FOUND), "{gc:?}");
            self.command("restore snapshot restored --output json").start_listening()
        })
    }

    /// A standby that has found the leader, which stands still.
    pub(crate) fn standby(&self, leader: &Running) -> Running {
        self.stage.standby(self.command("restore snapshot restored --standby"), leader)
    }

    /// The owner of the store, and what it committed last.
    pub(crate) fn head(&self) -> copyseg::Head {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            copyseg::open_catalog_read_only(&self.url).await.unwrap().head().await.unwrap()
        })
    }

    /// The one job.
    pub(crate) fn job(&self) -> Value {
        let list = self.command("job list -o json").run().exits(0).json();
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
        list["items"][0].clone()
    }

    pub(crate) fn assert_completed(&self) {
        self.stage.assert_restored();
        assert_eq!(self.job()["state"], "completed");
        let checked = self.command("check -o json").run().exits(0).json();
        assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
    }
}
