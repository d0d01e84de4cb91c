//! Notification: from alerts to mails that were taken.

mod accept;
mod compose;
mod mailer;
mod retry;
mod sender;
mod store;

pub use accept::NotifierPorts;
pub use compose::compose;
pub use mailer::{Mail, MailError, Mailer};
pub use retry::{SenderOptions, SenderOptionsError};
pub use sender::{Sender, SenderHandle, SenderPorts};
pub use store::{
    Claimant, Claimed, Delivery, DeliveryId, Incoming, NotifyStore, Outcome, Owned, Settlement,
};
