//! What catalogs on the local disk have in common, whatever keeps their records: the thread that owns the storage, the
//! notes of who holds it and of its last commit, names that last, and the meaning of an error.
//!
//! For the backends of copyseg. A backend of your own needs only `copyseg_core::Catalog`.

mod writer;
mod commits;
mod holder;
mod note;
mod place;
mod error;

pub use error::{Lasting, classify_io, guard, io_failed, is_panic, lasting_io, unknown_outcome};
pub use holder::{HolderFile, describe_holder};
pub use note::{Note, check_note};
pub use place::{Place, create_folder, forget_cached, resolve, sync_folder_of};
pub use writer::{Owner, Storage, Store, Writer};
