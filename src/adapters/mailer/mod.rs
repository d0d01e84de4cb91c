//! Mailers: over SMTP, as files, and on the console.

mod console;
mod files;
mod message;
mod smtp;

pub use console::ConsoleMailer;
pub use files::FilesMailer;
pub use smtp::{SmtpMailer, SmtpOptions, SmtpOptionsError, SmtpUrl, SmtpUrlError, TlsPolicy};
