//! The place of a row in its table.

use pgrx::pg_sys;
use std::fmt;

/// Block and offset, in the order of the table (`ItemPointerData` of `storage/itemptr.h`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Tid {
    pub(crate) block: u32,
    pub(crate) offset: u16,
}

impl Tid {
    pub(crate) fn first_of(block: u32) -> Self {
        Self { block, offset: 1 }
    }

    /// Behind every row of the block.
    pub(crate) fn last_of(block: u32) -> Self {
        Self {
            block,
            offset: u16::MAX,
        }
    }

    /// The next place, which may be in no use.
    pub(crate) fn next(self) -> Self {
        Self {
            block: self.block,
            offset: self.offset.saturating_add(1),
        }
    }

    /// The place before, whose block may be another; `None` for the first of all.
    pub(crate) fn previous(self) -> Option<Self> {
        if self.offset > 1 {
            Some(Self {
                offset: self.offset - 1,
                ..self
            })
        } else {
            self.block.checked_sub(1).map(Self::last_of)
        }
    }

    pub(super) fn from_server(tid: &pg_sys::ItemPointerData) -> Self {
        Self {
            block: (u32::from(tid.ip_blkid.bi_hi) << 16) | u32::from(tid.ip_blkid.bi_lo),
            offset: tid.ip_posid,
        }
    }

    pub(super) fn to_server(self) -> pg_sys::ItemPointerData {
        pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData {
                bi_hi: (self.block >> 16) as u16,
                bi_lo: (self.block & 0xffff) as u16,
            },
            ip_posid: self.offset,
        }
    }
}

/// As type `tid` prints it.
impl fmt::Display for Tid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "({},{})", self.block, self.offset)
    }
}
