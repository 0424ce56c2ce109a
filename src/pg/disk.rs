//! Room on the disks of this server.

use std::ffi::CString;
use std::mem::MaybeUninit;

/// Bytes that the file system of a directory has left for this user; `None`: it does not tell.
pub(crate) fn free_bytes(directory: &str) -> Option<i64> {
    let directory = CString::new(directory).ok()?;
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a string, and room for the answer, which is read only after it was written.
    let answer = unsafe {
        if libc::statvfs(directory.as_ptr(), answer.as_mut_ptr()) != 0 {
            return None;
        }
        answer.assume_init()
    };
    // Their widths differ between platforms.
    let bytes = u128::from(answer.f_bavail) * u128::from(answer.f_frsize);
    Some(i64::try_from(bytes).unwrap_or(i64::MAX))
}
