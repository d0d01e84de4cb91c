//! The contract of the server's store: commands, accounts, queries, operators. An adapter runs
//! it by one line at the end.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod accounts;
mod changes;
mod deletions;
mod fixture;
mod letters;
mod model;
#[path = "../support/mysql_server.rs"]
mod mysql_server;
mod queries;
mod requests;
mod statements;
mod sweep;

use fixture::{mysql, sqlite};

macro_rules! contract {
    ($adapter:ident: $($group:ident::$case:ident)*) => {
        mod $adapter {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(fixture) = crate::$adapter().await else { return };
                crate::$group::$case(fixture).await;
            })*
        }
    };
    ($adapter:ident) => {
        contract! { $adapter:
            requests::two_hundred_copies_of_a_registration_make_one_account
            requests::a_repetition_changes_nothing_and_another_fingerprint_shows
            requests::callers_have_ids_of_their_own
            requests::refusals_are_recorded
            requests::a_command_runs_to_its_end_without_its_caller
            requests::an_answer_without_a_transaction_is_recorded_once
            requests::an_import_is_loaded_once_in_order
            requests::an_import_of_many_is_fast
            changes::a_new_watch_is_at_its_first_version_and_pending
            changes::versions_follow_the_rules
            changes::concurrent_changes_of_parts_all_take_effect
            changes::another_symbol_is_pending_for_both
            changes::refused_changes_change_nothing
            changes::a_missing_watch_is_created_where_asked
            changes::resets_are_for_known_symbols
            model::random_commands_agree_with_a_model
            deletions::a_deleted_watch_is_gone_and_cancels_what_is_undelivered
            deletions::a_deleted_user_is_gone_with_all_watches
            deletions::prices_go_with_the_last_watch_and_the_last_tick_stays
            accounts::addresses_are_compared_without_case_and_kept_as_typed
            accounts::sessions_end_and_can_be_closed
            accounts::sessions_are_bounded_and_the_newest_stays
            accounts::a_new_password_revokes_the_other_sessions
            accounts::an_account_is_put_from_the_host
            accounts::the_generation_shows_the_writes_of_others
            queries::watches_are_paged_by_id_with_state_and_price
            queries::history_is_the_newest_first
            queries::alerts_are_paged_newest_first_with_their_delivery
            queries::notes_on_symbols_are_read_as_they_were_last_written
            letters::a_page_is_bounded_in_bytes
            letters::letters_of_both_kinds_are_merged_newest_first
            letters::a_dead_delivery_is_sent_again
            letters::a_dead_record_is_taken_away
            letters::the_backlog_is_counted
            sweep::old_alerts_go_and_undelivered_ones_stay
            sweep::young_dead_letters_stay
            sweep::requests_and_sessions_go_after_their_time
            sweep::prices_without_news_go
        }
    };
}

contract!(sqlite);
contract!(mysql);
