//! The names of everything that a look can find: stable words, each with a row in `docs/how-to/containers.md`.

use serde::{Serialize, Serializer};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident => $word:literal,)*) => {
        /// What is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Code] = &[$(Code::$code,)*];

            /// Its word.
            pub fn word(self) -> &'static str {
                match self {
                    $(Code::$code => $word,)*
                }
            }
        }
    };
}

codes! {
    /// A directory does not exist, and is not made.
    DirectoryMissing => "directory_missing",
    /// Something else lies in the place of a directory, or above it.
    NotADirectory => "not_a_directory",
    /// A link to something that does not exist.
    DanglingLink => "dangling_link",
    /// Links that lead to each other.
    LinkLoop => "link_loop",
    /// It belongs to somebody else than it should.
    WrongOwner => "wrong_owner",
    /// The permission bits keep the user from what the path is for.
    NoPermission => "no_permission",
    /// The permission bits of a directory above keep the user out.
    NotSearchable => "not_searchable",
    /// The permission bits allow it, and the kernel refuses.
    Refused => "refused",
    /// It carries the attribute that nobody may change it.
    Immutable => "immutable",
    /// Its file system is mounted read-only.
    ReadOnly => "read_only",
    /// A file could not be created, removed, written, synced or read.
    WriteFailed => "write_failed",
    /// There is as good as no room.
    DiskFull => "disk_full",
    /// There is little room.
    DiskLow => "disk_low",
    /// There are as good as no inodes.
    InodesFull => "inodes_full",
    /// There are few inodes.
    InodesLow => "inodes_low",
    /// Below a mount point that nothing is mounted on.
    NotMounted => "not_mounted",
    /// Its file system hangs.
    NoAnswer => "no_answer",
    /// Too many others hang.
    NotAsked => "not_asked",
    /// The kernel answers with an error.
    Unreadable => "unreadable",
    /// The helper that looks could not work.
    NotLookedAt => "not_looked_at",
    /// Something else lies in the place of a database.
    DatabaseIsNoFile => "database_is_no_file",
    /// There is no such program.
    CommandMissing => "command_missing",
    /// A program that may not be executed.
    CommandNotExecutable => "command_not_executable",
    /// A program that the kernel refuses to execute.
    CommandRefused => "command_refused",
    /// A script whose interpreter is not there.
    InterpreterMissing => "interpreter_missing",
    /// The node may not become the app's user.
    UserNotSwitchable => "user_not_switchable",
    /// A bucket cannot be reached, read or written to.
    StoreUnusable => "store_unusable",
    /// Somebody else listens there.
    PortTaken => "port_taken",
    /// This user may not listen there.
    PortRefused => "port_refused",
    /// No address of this machine.
    AddressUnknown => "address_unknown",
    /// Another reason why nobody can listen there.
    PortUnusable => "port_unusable",
    /// `UMASK` cannot be read.
    UmaskInvalid => "umask_invalid",
    /// `PUID` cannot be read.
    PuidInvalid => "puid_invalid",
    /// `PGID` cannot be read.
    PgidInvalid => "pgid_invalid",
    /// `PGID` has no effect.
    PgidAlone => "pgid_alone",
    /// `HOSTNAME` is not the machine's name.
    HostnameDiffers => "hostname_differs",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}
