//! TLS: right, and each way to be wrong.

use std::fs;
use std::path::PathBuf;

use copyseg_core::ErrorKind;
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use copyseg_test_etcd::host;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rstest::rstest;
use tempfile::TempDir;

use crate::member::Member;
use crate::writer::Writer;

/// An authority, and files with what it and others signed.
struct Files {
    folder: TempDir,
    authority: Issuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(&folder, "ca.pem");
        authority_of_others(&folder);
        let files = Self { folder, authority };
        let host = host().to_string();
        files.sign("server", &host, |_| {});
        files.sign("elsewhere", "192.0.2.1", |_| {});
        files.sign("expired", &host, |params| params.not_after = date_time_ymd(2020, 1, 1));
        files.sign("client", "me", |_| {});
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, name: &str, host: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A member that shows this certificate and asks for one.
    fn member(&self, server: &str) -> Member {
        let arguments = [
            format!("--cert-file={}", self.path(&format!("{server}.pem")).display()),
            format!("--key-file={}", self.path(&format!("{server}.key")).display()),
            format!("--trusted-ca-file={}", self.path("ca.pem").display()),
            "--client-cert-auth".into(),
        ];
        Member::cluster(1, &arguments.each_ref().map(String::as_str)).remove(0)
    }

    fn options(&self, member: &Member) -> EtcdOptions {
        member.options().ca(self.path("ca.pem")).identity(self.path("client.pem"), self.path("client.key"))
    }
}

fn authority(folder: &TempDir, file: &str) -> Issuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, file);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.path().join(file), params.self_signed(&key).unwrap().pem()).unwrap();
    Issuer::new(params, key)
}

fn authority_of_others(folder: &TempDir) {
    authority(folder, "other-ca.pem");
}

/// Opens when the member is up; the error, once it is not that nobody listens yet.
async fn open(options: &EtcdOptions) -> copyseg_core::Result<EtcdCatalog> {
    loop {
        match EtcdCatalog::open(options.clone()).await {
            Err(error) if error.chain().contains("Connection refused") => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            result => return result,
        }
    }
}

#[tokio::test]
async fn certificates_on_both_sides_work() {
    let files = Files::new();
    let member = files.member("server");
    let catalog = open(&files.options(&member)).await.unwrap();
    let mut writer = Writer::acquire(&catalog).await;
    writer.put(0..100, 1000).await.unwrap();
    writer.assert_stored().await;
}

#[rstest]
#[case::bad_authority("server", |files: &Files, options: EtcdOptions| options.ca(files.path("other-ca.pem")), "UnknownIssuer")]
#[case::system_authorities("server", |_: &Files, options: EtcdOptions| EtcdOptions::new(options.endpoints).tls(), "UnknownIssuer")]
#[case::wrong_host("elsewhere", |_: &Files, options: EtcdOptions| options, "not valid for name \"127.")]
#[case::expired("expired", |_: &Files, options: EtcdOptions| options, "certificate expired")]
#[case::no_certificate("server", |files: &Files, options: EtcdOptions| EtcdOptions::new(options.endpoints).ca(files.path("ca.pem")), "transport error")]
#[case::no_tls("server", |_: &Files, options: EtcdOptions| EtcdOptions::new(options.endpoints), "")]
#[tokio::test]
async fn a_wrong_certificate_is_refused_and_said(
    #[case] server: &str,
    #[case] change: fn(&Files, EtcdOptions) -> EtcdOptions,
    #[case] reason: &str,
) {
    let files = Files::new();
    let member = files.member(server);
    let options = change(&files, files.options(&member));
    let error = open(&options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.chain().contains(reason), "{}", error.chain());
    assert!(!error.chain().contains("PRIVATE"), "{}", error.chain());
}

#[rstest]
#[case::missing("nowhere.pem", "cannot be read")]
#[case::not_a_certificate("server.key", "has no `CERTIFICATE`")]
#[tokio::test]
async fn a_file_that_is_no_certificate_is_named(#[case] file: &str, #[case] reason: &str) {
    let files = Files::new();
    let options = EtcdOptions::new(["127.0.0.1:1"]).ca(files.path(file));
    let error = EtcdCatalog::open(options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    assert!(error.to_string().contains(reason), "{error:?}");
}
