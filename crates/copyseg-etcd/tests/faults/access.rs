//! Logins: right, wrong, expired and changed.

use copyseg_core::{Catalog, ErrorKind};
use copyseg_etcd::{EtcdCatalog, EtcdOptions, Password};
use etcd_client::{Client, ConnectOptions, Permission};

use crate::member::Member;
use crate::writer::Writer;

const SECRET: &str = "correct horse";

/// Switches authentication on, with a user that may use the prefix `mine`; returns the administrator's client.
async fn protect(member: &Member) -> Client {
    let mut client = member.client().await;
    client.user_add("root", "root secret", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("me", SECRET, None).await.unwrap();
    client.role_add("mine").await.unwrap();
    client.role_grant_permission("mine", Permission::read_write("/mine/").with_prefix()).await.unwrap();
    client.user_grant_role("me", "mine").await.unwrap();
    client.auth_enable().await.unwrap();
    let options = ConnectOptions::new().with_user("root", "root secret");
    Client::connect([&member.endpoint], Some(options)).await.unwrap()
}

fn logged_in(member: &Member, password: &str) -> EtcdOptions {
    member.options().prefix("mine").user("me", Password::from(password.to_owned()))
}

#[tokio::test]
async fn a_role_for_the_prefix_is_enough() {
    let member = Member::start(&[]);
    protect(&member).await;
    let catalog = EtcdCatalog::open(logged_in(&member, SECRET)).await.unwrap();
    let mut writer = Writer::acquire(&catalog).await;
    writer.put(0..100, 1000).await.unwrap();
    writer.assert_stored().await;
}

#[tokio::test]
async fn a_login_that_is_not_good_enough_is_refused_with_what_to_check() {
    let member = Member::start(&[]);
    protect(&member).await;
    let cases = [
        (logged_in(&member, "wrong horse"), "check the user and the password"),
        (member.options().prefix("mine"), "check the user"),
        (logged_in(&member, SECRET).prefix("other"), "read and write the prefix"),
    ];
    for (options, advice) in cases {
        let error = EtcdCatalog::open(options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains(advice), "{error:?}");
        assert!(!error.chain().contains("horse"), "{error:?}");
    }
}

#[tokio::test]
async fn a_login_to_a_cluster_without_authentication_is_refused() {
    let member = Member::start(&[]);
    let error = EtcdCatalog::open(logged_in(&member, SECRET)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("authentication is not enabled"), "{}", error.chain());
}

#[tokio::test]
async fn a_login_is_renewed_when_the_users_of_the_cluster_change() {
    let member = Member::start(&[]);
    let mut administrator = protect(&member).await;
    let catalog = EtcdCatalog::open(logged_in(&member, SECRET)).await.unwrap();
    let mut writer = Writer::acquire(&catalog).await;
    for id in 0..20 {
        administrator.user_add(format!("user{id}"), "x", None).await.unwrap();
        administrator.refresh_token().await.unwrap();
        if id % 2 == 0 {
            writer.assert_stored().await;
        }
        writer.put([id], 100).await.unwrap();
    }
    writer.assert_stored().await;
}

#[tokio::test]
async fn a_login_is_renewed_when_the_member_has_forgotten_it() {
    let mut member = Member::start(&[]);
    protect(&member).await;
    let catalog = EtcdCatalog::open(logged_in(&member, SECRET)).await.unwrap();
    let mut writer = Writer::acquire(&catalog).await;
    for id in 0..5 {
        // Tokens live in the memory of the member that gave them.
        member.kill();
        member.restart();
        writer.put_surely(id).await;
        writer.put([id], 100).await.unwrap();
        writer.assert_stored().await;
    }
}

#[tokio::test]
async fn a_password_that_was_changed_ends_in_an_error_and_writes_nothing() {
    let mut member = Member::start(&[]);
    let mut administrator = protect(&member).await;
    let catalog = EtcdCatalog::open(logged_in(&member, SECRET)).await.unwrap();
    let mut writer = Writer::acquire(&catalog).await;
    administrator.user_change_password("me", "another horse").await.unwrap();
    member.kill();
    member.restart();
    let renewed = logged_in(&member, "another horse");
    while EtcdCatalog::open(renewed.clone()).await.is_err() {}
    let error = writer.put([1], 100).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(!error.chain().contains("horse"), "{error:?}");
    let catalog = EtcdCatalog::open(renewed).await.unwrap();
    assert_eq!(catalog.head().await.unwrap(), writer.head);
}
