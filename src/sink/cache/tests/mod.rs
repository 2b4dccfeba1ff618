//! One conformance suite for every place a cache's entries can be, against plain maps.

mod aside;
mod bulk;
mod model;
mod races;
#[cfg(feature = "redis")]
mod redis;
mod rules;
mod support;
mod types;

use support::Place;

/// All that a cache promises, wherever its entries are.
fn conformance(place: &Place) {
    rules::a_batch_is_seen_only_after_its_publish(place);
    rules::a_big_batch_is_put_whole(place);
    rules::a_watermark_never_goes_back(place);
    rules::edits_that_do_not_fit_are_refused_whole(place);
    rules::an_older_write_never_replaces_a_newer_one(place);
    rules::a_tombstone_stops_resurrection(place);
    rules::the_last_write_does_win_when_told_so(place);
    rules::a_truncate_takes_one_table_and_what_is_late_for_it(place);
    rules::a_current_row_is_right_or_an_error(place);
    aside::a_slow_loader_is_refused_by_position(place);
    aside::a_slow_loader_puts_an_old_value_for_good_without(place);
    bulk::a_generation_is_swapped_under_a_reader(place);
    bulk::a_generation_keeps_what_it_does_not_include_and_what_is_newer(place);
    bulk::it_is_refused_while_edits_wait_or_when_it_is_old(place);
    types::every_type_survives_bit_for_bit(place);
    races::the_highest_position_stays_and_readers_never_go_back(place);
    model::it_equals_a_map_whatever_happens(place);
}

#[test]
fn in_process() {
    conformance(&Place::memory());
}
