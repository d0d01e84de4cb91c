//! Notification: from alerts to mails that were taken.

mod mailer;
mod store;

pub use mailer::{Mail, MailError, Mailer};
pub use store::{
    Claimant, Claimed, Delivery, DeliveryId, Incoming, NotifyStore, Outcome, Owned, Settlement,
};
