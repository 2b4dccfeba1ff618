//! `--live`: a view of what is going on.

use super::Failure;
use super::args::LiveArgs;
use crate::live::{Feed, View};
use crate::output::say;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Starts the view that was asked for, if one was; it ends when it is dropped.
pub(super) fn start(arguments: &LiveArgs) -> Result<(Option<Feed>, Option<View>), Failure> {
    let Some(port) = arguments.live else { return Ok((None, None)) };
    let address = SocketAddr::new(arguments.live_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port);
    let feed = Feed::new();
    let view = View::start(address, feed.clone()).map_err(Failure::usage)?;
    // Said even if nothing else is: whoever asks for any free port has to hear which.
    say!("live view: http://{}/", view.address());
    Ok((Some(feed), Some(view)))
}
