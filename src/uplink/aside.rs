//! Encoding, which happens on a thread beside the tasks.

use std::time::Duration;

use tokio::time::Instant;

use super::forward::ForwardFilter;
use super::packing::{Packed, Packer};
use super::{Uplink, UplinkError};
use crate::encoding::columnar::Encoder;
use crate::kernel;
use crate::model::Commit;

/// Free memory is given back at most this often.
const TRIM_INTERVAL: Duration = Duration::from_secs(2);

impl Uplink {
    /// The encoder, for a [`Packer`] to work with.
    pub(super) fn take_encoder(&mut self) -> Result<Encoder, UplinkError> {
        self.encoder.take().map_or_else(|| Encoder::new().map_err(UplinkError::Encoder), Ok)
    }

    /// Encodes `commits`, and gives back the filter of `packer`. A large batch takes milliseconds; polling must not wait for it.
    pub(super) async fn pack(
        &mut self,
        mut packer: Packer,
        commits: Vec<Commit>,
    ) -> Result<(Packed, ForwardFilter), UplinkError> {
        let now = Instant::now();
        let trims = self.trimmed.is_none_or(|trimmed| now - trimmed >= TRIM_INTERVAL);
        if trims {
            self.trimmed = Some(now);
        }
        let packing = tokio::task::spawn_blocking(move || {
            let packed = packer.pack(commits);
            if trims {
                kernel::give_back_memory();
            }
            (packer, packed)
        });
        let (packer, packed) = packing.await.map_err(|_| UplinkError::Stopping)?;
        self.encoder = Some(packer.encoder);
        Ok((packed, packer.filter))
    }
}
