//! Mails as files, one `.eml` each, renamed into place once it is on disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use lettre::message::Mailbox;

use crate::pipeline::clock::Clock;
use crate::pipeline::notify::{Mail, MailError, Mailer};

use super::message::render;

const FROM: (&str, &str) = ("tripline", "localhost");

/// Writes mails into a folder: `ALERT-ID.eml`, or `test-MESSAGE-ID.eml` for a test mail. Sending
/// the same one again replaces its file.
pub struct FilesMailer {
    dir: PathBuf,
    from: Mailbox,
    clock: Arc<dyn Clock>,
    /// Tells the temporary files of this process apart.
    written: AtomicU64,
}

impl FilesMailer {
    /// Writes into `dir`, which is created with mode 0700 if it is missing. Half-written files
    /// of a process that was killed are removed.
    pub fn new(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let dir = dir.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".eml.tmp"))
            {
                fs::remove_file(entry.path())?;
            }
        }
        let address = lettre::Address::new(FROM.0, FROM.1).map_err(io::Error::other)?;
        let from = Mailbox::new(Some("Tripline".to_owned()), address);
        Ok(Self { dir, from, clock, written: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Mailer for FilesMailer {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let message = render(mail, &self.from, self.clock.now()).map_err(MailError::Permanent)?;
        // Files have the host's line ends, as in a Maildir, so that its tools see plain lines.
        let message: Vec<u8> = message.into_iter().filter(|byte| *byte != b'\r').collect();
        let name = match mail.alert {
            Some(alert) => format!("{alert}.eml"),
            None => format!("test-{}.eml", mail.message_id),
        };
        let unique = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!(".{}-{unique}.eml.tmp", std::process::id()));
        let (dir, path) = (self.dir.clone(), self.dir.join(name));
        let unreachable = |error: &dyn std::fmt::Display| {
            MailError::Unreachable(format!("cannot write {}: {error}", path.display()))
        };
        let write = {
            let path = path.clone();
            move || {
                write(&dir, &temporary, &path, &message).inspect_err(|_| {
                    // It may not exist; and what matters is the first error.
                    let _ = fs::remove_file(&temporary);
                })
            }
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(|error| unreachable(&error))?
            .map_err(|error| unreachable(&error))
    }
}

fn write(dir: &Path, temporary: &Path, path: &Path, message: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    file.write_all(message)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // The name is on disk only once the folder is.
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::adapters::clock::ManualClock;
    use crate::model::Timestamp;

    fn mailer(dir: &Path) -> FilesMailer {
        FilesMailer::new(dir, Arc::new(ManualClock::new(Timestamp::default()))).unwrap()
    }

    fn mail() -> Mail {
        Mail {
            alert: Some("17-1-951921000000-above".parse().unwrap()),
            to: "ann@example.com".parse().unwrap(),
            subject: "Ticker: AAPL".to_owned(),
            text: "Ticker: AAPL\n".to_owned(),
            html: "<p>AAPL</p>".to_owned(),
            message_id: "17-1-951921000000-above".to_owned(),
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn one_file_a_mail_named_after_its_alert() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a").join("mail");
        let mailer = mailer(&dir);
        mailer.send(&mail()).await.unwrap();
        let path = dir.join("17-1-951921000000-above.eml");
        let first = fs::read(&path).unwrap();
        mailer.send(&mail()).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), first, "the same mail is the same file");
        assert!(!first.contains(&b'\r'));
        let test = Mail { alert: None, message_id: "x1".to_owned(), ..mail() };
        mailer.send(&test).await.unwrap();
        assert_eq!(names(&dir), ["17-1-951921000000-above.eml", "test-x1.eml"]);
        for (path, mode) in [(&dir, 0o700), (&path, 0o600)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_nobodys_refusal() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("mail");
        let mailer = mailer(&dir);
        fs::remove_dir(&dir).unwrap();
        let error = mailer.send(&mail()).await.unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("above.eml"), "{error}");
        let nasty = Mail { alert: None, message_id: "../x".to_owned(), ..mail() };
        assert!(matches!(mailer.send(&nasty).await, Err(MailError::Permanent(_))));
        assert_eq!(names(parent.path()), [""; 0]);
    }

    #[test]
    fn half_written_files_of_a_killed_process_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".1-0.eml.tmp", "1-1-1-above.eml", "notes.tmp"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        mailer(dir.path());
        assert_eq!(names(dir.path()), ["1-1-1-above.eml", "notes.tmp"]);
    }
}
