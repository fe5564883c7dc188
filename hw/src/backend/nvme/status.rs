//! What an NVMe status means (NVM Express base 2.0, figures 92 to 99; zoned namespaces 1.1, figure 31).

use crate::backend::drive::PortError;

/// A command was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Refusal {
    /// The drive's word: the status field without its phase bit.
    Status(u16),
    /// The kernel's errno: the command did not reach the drive, or its answer was lost.
    Kernel(i32),
}

impl From<Refusal> for PortError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Status(status) => meaning(status),
            // The kernel refuses transfers that the drive could not take.
            Refusal::Kernel(libc::EINVAL) => Self::InvalidField,
            Refusal::Kernel(errno) => Self::Failed { errno },
        }
    }
}

/// Status code type and status code; the bits above say whether a retry may help and whether there is more to read.
fn meaning(status: u16) -> PortError {
    let medium = PortError::Medium { errno: libc::EIO };
    match (status >> 8 & 0x7, status & 0xff) {
        // Generic: invalid field, invalid field in the controller's command set, size of the data.
        (0, 0x02 | 0x0b) => PortError::InvalidField,
        (0, 0x80 | 0x81) => PortError::Boundary,
        (0, 0x20 | 0x82..=0x84) => medium,
        // Zoned command set.
        (1, 0xb8) => PortError::Boundary,
        (1, 0xb9) => PortError::Full,
        (1, 0xba) => PortError::ReadOnly,
        (1, 0xbb) => PortError::Offline,
        (1, 0xbc) => PortError::WritePointer,
        (1, 0xbd) => PortError::TooManyActive,
        (1, 0xbe) => PortError::TooManyOpen,
        (1, 0xbf) => PortError::Condition,
        // NVM command set: conflicting attributes, protection information, write to a read-only range.
        (1, 0x80 | 0x81) => PortError::InvalidField,
        (1, 0x82) => PortError::ReadOnly,
        // Media: write fault, unrecovered read, checks, access denied, deallocated.
        (2, _) => medium,
        // Transfer errors, internal errors, aborted commands, paths: the device or the way to it.
        _ => PortError::Failed { errno: libc::EIO },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_means_the_same_with_and_without_its_upper_bits() {
        for (status, expected) in [
            (0x0002, PortError::InvalidField),
            (0x0080, PortError::Boundary),
            (0x01b8, PortError::Boundary),
            (0x01b9, PortError::Full),
            (0x01ba, PortError::ReadOnly),
            (0x01bb, PortError::Offline),
            (0x01bc, PortError::WritePointer),
            (0x01bd, PortError::TooManyActive),
            (0x01be, PortError::TooManyOpen),
            (0x01bf, PortError::Condition),
            (0x0281, PortError::Medium { errno: libc::EIO }),
            (0x0006, PortError::Failed { errno: libc::EIO }),
            (0x0370, PortError::Failed { errno: libc::EIO }),
        ] {
            for upper in [0, 0x2000, 0x4000, 0x6000] {
                assert_eq!(meaning(status | upper), expected, "{status:#x}");
            }
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_a_bad_field_and_all_else_a_failure() {
        assert_eq!(PortError::from(Refusal::Kernel(libc::EINVAL)), PortError::InvalidField);
        assert_eq!(PortError::from(Refusal::Kernel(libc::ENODEV)), PortError::Failed { errno: libc::ENODEV });
    }
}
