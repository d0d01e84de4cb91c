//! The contract of the stages' store ports: every adapter runs every check, through one line.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../support/authority.rs"]
mod authority;
mod collect;
mod commits;
mod deliveries;
mod fixture;
mod mysql;
mod mysql_faults;
#[path = "../support/mysql_server.rs"]
mod mysql_server;
mod mysql_tls;
mod partitions;
#[path = "../support/services.rs"]
mod services;
mod settlements;
mod sqlite;
mod topics;
mod watches;

/// Runs the contract against an adapter, each check on a fresh store.
macro_rules! store_contract {
    ($adapter:ident, $fixture:expr) => {
        mod $adapter {
            store_contract!(@tests $fixture;
                topics:
                    a_topic_is_adopted_once_and_kept,
                    another_number_of_partitions_is_refused,
                    a_topic_that_was_replaced_is_refused;
                partitions:
                    a_fresh_partition_stands_at_the_earliest_offset,
                    a_new_owner_voids_the_one_before,
                    owners_of_other_partitions_and_topics_are_left_alone,
                    a_stale_owner_commits_nothing,
                    a_step_from_elsewhere_is_refused,
                    a_repeated_step_succeeds_and_does_nothing,
                    a_repeated_step_that_consumed_nothing_is_known,
                    published_never_goes_back;
                commits:
                    alerts_are_unique_and_numbers_may_stay_unused,
                    a_number_taken_by_another_alert_fails_the_whole_step,
                    alerts_come_in_order_and_in_pages,
                    symbols_come_in_pages_as_they_were_written,
                    the_newest_prices_are_kept,
                    an_older_state_never_replaces_a_newer_one,
                    the_state_of_a_deleted_watch_is_dropped,
                    records_are_set_aside_once,
                    a_large_step_is_written_whole;
                watches:
                    watches_come_in_pages_with_their_states,
                    changes_are_seen_until_they_are_applied,
                    a_change_that_commits_late_is_seen,
                    a_change_says_how_the_watch_is_now,
                    a_change_wakes_the_evaluator_of_its_partition;
                deliveries:
                    an_alert_gets_one_delivery,
                    the_trace_is_kept_with_the_delivery,
                    a_repeated_acceptance_claims_nothing,
                    a_stale_notifier_accepts_nothing,
                    only_so_many_are_claimed_at_once,
                    an_alert_that_is_not_stored_is_dropped,
                    the_alert_of_something_deleted_is_cancelled,
                    nothing_is_claimed_after_a_deletion,
                    a_claim_lasts_as_long_as_its_lease,
                    the_longest_due_comes_first;
                settlements:
                    a_delivered_one_is_done,
                    a_refused_one_is_due_again,
                    an_unjudged_attempt_is_not_counted,
                    a_dead_one_stays_dead,
                    a_lost_claim_is_left_alone,
                    many_ends_are_recorded_together,
                    claims_whose_answer_was_lost_are_found_again,
                    a_delivered_one_is_always_recorded;
                collect:
                    symbols_are_listed_once_and_not_while_paused
            );
        }
    };
    (@tests $fixture:expr; $($module:ident: $($check:ident),+);+) => {
        $($(
            #[tokio::test]
            async fn $check() {
                let Some(fixture) = $fixture.await else { return };
                crate::$module::$check(&fixture).await;
            }
        )+)+
    };
}

store_contract!(sqlite_store, crate::fixture::sqlite());
store_contract!(mysql_store, crate::fixture::mysql());
