//! Stores opened by URL.

use copyseg::{ErrorKind, JobFilter, ManagerOptions, NewJob, Result};

#[tokio::test]
async fn a_store_in_memory_is_new_each_time() -> Result<()> {
    let manager = copyseg::open("memory:").await?;
    manager.add_job(NewJob::default(), vec![]).await?;
    assert_eq!(copyseg::open("memory:").await?.count_jobs(&JobFilter::new())?, 0);
    Ok(())
}

#[tokio::test]
async fn a_store_in_memory_has_nothing_to_read() {
    let error = copyseg::open_catalog_read_only("memory:").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_store_that_is_not_read_beside_its_writer_cannot_be_followed() {
    for url in [
        "memory:",
        #[cfg(feature = "redb")]
        "redb:restores.redb",
    ] {
        let error = copyseg::open_follower(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{url}");
        assert!(error.to_string().contains("`MetaManager::subscribe`"), "{error}");
    }
}

#[tokio::test]
async fn options_reach_the_manager() -> Result<()> {
    let options = ManagerOptions { active_jobs_max: Some(0), ..ManagerOptions::default() };
    let manager = copyseg::open_with("memory:", options).await?;
    let error = manager.add_job(NewJob::default(), vec![]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    Ok(())
}

#[tokio::test]
async fn every_scheme_listed_is_known() {
    for scheme in copyseg::schemes() {
        let error = copyseg::open_catalog(&format!("{scheme}://host?no_such_option=1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{scheme}: {error}");
    }
}

#[cfg(feature = "redb")]
mod redb {
    use copyseg::{ErrorKind, NewJob, Result, Snapshot};

    #[tokio::test]
    async fn a_store_in_a_file_is_found_again() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("redb:{}/my%20jobs.redb", folder.path().display());
        let manager = copyseg::open(&url).await?;
        let job = manager.add_job(NewJob::default(), vec![]).await?;
        manager.close().await?;
        assert!(folder.path().join("my jobs.redb").is_file());

        let manager = copyseg::open(&url).await?;
        assert!(manager.get_job(job)?.is_some());
        manager.close().await?;

        let catalog = copyseg::open_catalog_read_only(&url).await?;
        assert!(Snapshot::load(&*catalog).await?.job(job).is_some());
        catalog.close().await
    }

    #[tokio::test]
    async fn every_name_of_a_store_has_the_same_canonical_url() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a 50%")).unwrap();
        std::os::unix::fs::symlink(real.join("a 50%"), real.join("link")).unwrap();
        let canonical = format!("redb://{}/a 50%25/x.redb", real.display());
        for name in ["a%2050%25/x.redb", "a 50%25/../link/x.redb", "link/x.redb"] {
            let url = format!("redb:{}/{name}", real.display());
            assert_eq!(copyseg::canonical_url(&url)?, canonical, "before it is there");
            copyseg::open(&url).await?.close().await?;
            assert_eq!(copyseg::canonical_url(&url)?, canonical);
        }
        assert!(real.join("a 50%/x.redb").is_file());
        Ok(())
    }

    #[tokio::test]
    async fn sound_storage_is_sound_and_a_missing_store_is_not_created() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("redb:{}/x.redb", folder.path().display());
        let error = copyseg::check_storage(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        copyseg::open(&url).await?.close().await?;
        assert!(copyseg::check_storage(&url).await?);
        Ok(())
    }

    #[tokio::test]
    async fn reading_creates_no_store() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("redb:{}/jobs.redb", folder.path().display());
        let error = copyseg::open_catalog_read_only(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}

#[cfg(feature = "sled")]
mod sled {
    use copyseg::{ErrorKind, NewJob, Result, Snapshot};

    #[tokio::test]
    async fn a_store_in_a_folder_is_found_again() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sled:{}/my%20jobs", folder.path().display());
        let manager = copyseg::open(&url).await?;
        let job = manager.add_job(NewJob::default(), vec![]).await?;
        manager.close().await?;
        assert!(folder.path().join("my jobs").is_dir());

        let manager = copyseg::open(&url).await?;
        assert!(manager.get_job(job)?.is_some());
        manager.close().await?;

        let catalog = copyseg::open_catalog_read_only(&url).await?;
        assert!(Snapshot::load(&*catalog).await?.job(job).is_some());
        catalog.close().await
    }

    #[tokio::test]
    async fn sound_storage_is_sound_and_a_missing_store_is_not_created() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sled:{}/x", folder.path().display());
        let error = copyseg::check_storage(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        copyseg::open(&url).await?.close().await?;
        assert!(copyseg::check_storage(&url).await?);
        assert_eq!(copyseg::canonical_url(&format!("{url}/../x/"))?, copyseg::canonical_url(&url)?);
        Ok(())
    }

    #[tokio::test]
    async fn reading_creates_no_store() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sled:{}/jobs", folder.path().display());
        let error = copyseg::open_catalog_read_only(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
