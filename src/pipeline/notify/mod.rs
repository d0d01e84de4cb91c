//! Notification: from alerts to mails that were taken.

mod accept;
mod mailer;
mod store;

pub use accept::{Dispatch, NotifierPorts};
pub use mailer::{Mail, MailError, Mailer};
pub use store::{
    Claimant, Claimed, Delivery, DeliveryId, Incoming, NotifyStore, Outcome, Owned, Settlement,
};
