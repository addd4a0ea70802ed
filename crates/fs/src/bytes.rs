//! Little-endian fields at fixed offsets of a buffer: how all formats here are
//! described in their specs.
//!
//! Writers index buffers whose size they chose, so the `put` functions panic on
//! a wrong offset. Readers get bytes of unknown origin, but always in buffers of
//! known size (a block, an inode), so their offsets are known to be inside too;
//! whatever is computed from content goes through [`slice`].

macro_rules! fields {
    ($($put:ident $get:ident $ty:ty),*) => { $(
        pub(crate) fn $put(buf: &mut [u8], at: usize, value: $ty) {
            buf[at..at + size_of::<$ty>()].copy_from_slice(&value.to_le_bytes());
        }
        pub(crate) fn $get(buf: &[u8], at: usize) -> $ty {
            let bytes = buf[at..at + size_of::<$ty>()].try_into();
            <$ty>::from_le_bytes(bytes.expect("the slice has the size of the type"))
        }
    )* };
}
fields!(put16 get16 u16, put32 get32 u32);

/// `len` bytes from `at`, if they are there.
pub(crate) fn slice(buf: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    buf.get(at..at.checked_add(len)?)
}
