//! Last step of writing: the bytes of everything, handed to [`crate::output`].

use std::fs::File;

use rayon::prelude::*;
use tree::Kind;

use super::dir::Owner;
use super::format::*;
use super::inode::{Extent, RawInode, device_pointers, extent_tree};
use super::place::{Place, Plan};
use super::survey::{Body, FAST_TARGET, Item, Survey};
use super::tables::{Context, Placed};
use super::{Ext4Options, NAME, xattr};
use crate::FsError;
use crate::output::{self, Data, Piece, Target, push_content};

/// Writes a planned file system.
pub(super) fn write(
    survey: &Survey,
    plan: &Plan,
    options: &Ext4Options,
    out: &File,
    offset: u64,
) -> Result<(), FsError> {
    output::extend(NAME, out, offset, options.size)?;
    let seed = Csum::seed(options.uuid.as_bytes());
    let context = Context { survey, plan, options, seed };
    let mut pieces = Vec::new();
    let mut put = |(block, bytes): Placed| {
        pieces.push(Piece { at: offset + block * BLOCK, data: Data::Owned(bytes) });
    };
    let groups = context.groups();
    for group in plan.geometry.super_groups() {
        let mut start = context.superblock(group, groups.free_blocks);
        if group == 0 {
            start.splice(0..0, [0; SUPER_LEN]); // room for a boot loader
        }
        start.resize(BLOCK_LEN, 0);
        start.extend_from_slice(&groups.descriptors);
        put((plan.geometry.group_start(group), start));
    }
    groups.bitmaps.into_iter().for_each(&mut put);
    context.reserved_blocks().into_iter().for_each(&mut put);
    for (place, shared) in plan.shared.iter().zip(&survey.shared) {
        let mut block = shared.block.clone();
        xattr::finish_block(&mut block, shared.references, *place, seed);
        put((*place, block));
    }
    inode_tables(&context).into_iter().for_each(&mut put);
    dir_blocks(survey, plan, seed).into_iter().for_each(&mut put);
    for (item, place) in survey.items.iter().zip(&plan.places) {
        contents(&mut pieces, item, place, offset);
    }
    output::write(NAME, out, pieces)
}

/// All inodes in use, and the extent blocks they point to.
fn inode_tables(context: &Context) -> Vec<Placed> {
    let Context { survey, plan, .. } = context;
    let per_group = plan.geometry.inodes_per_group as usize * INODE_LEN;
    let mut table = Vec::with_capacity(survey.items.len() * INODE_LEN + BLOCK_LEN);
    let mut blocks = Vec::new();
    let mut tree_items = survey.items.iter().zip(&plan.places).peekable();
    for number in 1..=survey.inodes() as u32 {
        match tree_items.next_if(|(item, _)| item.number == number) {
            Some((item, place)) => {
                table.extend_from_slice(&inode(context, item, place, &mut blocks));
            }
            None => table.extend_from_slice(&context.reserved_inode(number)),
        }
    }
    table.resize(table.len().next_multiple_of(BLOCK_LEN), 0);
    let tables = table.chunks(per_group).zip(&plan.geometry.inode_table);
    blocks.extend(tables.map(|(bytes, at)| (*at, bytes.to_vec())));
    blocks
}

fn inode(
    context: &Context,
    item: &Item,
    place: &Place,
    blocks: &mut Vec<Placed>,
) -> [u8; INODE_LEN] {
    let meta = &item.node.meta;
    let (kind, size) = match &item.node.kind {
        Kind::Dir => (file_type::DIRECTORY, place.blocks_of_content() * BLOCK),
        Kind::File(content) => (file_type::REGULAR, content.len()),
        Kind::Symlink(target) => (file_type::SYMLINK, target.len() as u64),
        Kind::CharDev(_) => (file_type::CHAR, 0),
        Kind::BlockDev(_) => (file_type::BLOCK, 0),
        Kind::Fifo => (file_type::FIFO, 0),
        Kind::Socket => (file_type::SOCKET, 0),
    };
    let mut flags = 0;
    let pointers = match &item.node.kind {
        Kind::CharDev(device) | Kind::BlockDev(device) => {
            device_pointers(*device).expect("the survey refused other numbers")
        }
        Kind::Symlink(target) if target.len() < FAST_TARGET => {
            let mut pointers = [0; 60];
            pointers[..target.len()].copy_from_slice(target);
            pointers
        }
        Kind::Fifo | Kind::Socket => [0; 60],
        Kind::Dir | Kind::File(_) | Kind::Symlink(_) => {
            flags |= inode_flag::EXTENTS;
            let (pointers, tree) =
                extent_tree(&place.extents, &place.tree, item.number, context.seed);
            blocks.extend(tree);
            pointers
        }
    };
    if matches!(&item.body, Body::Dir { layout, .. } if layout.indexed()) {
        flags |= inode_flag::INDEX;
    }
    let raw = RawInode {
        mode: kind | (meta.mode & 0o7777),
        uid: meta.uid,
        gid: meta.gid,
        size,
        links: item.links,
        blocks: place.blocks() + u64::from(item.shared.is_some()),
        flags,
        mtime: meta.mtime,
        created: context.options.created(),
        pointers,
        xattr_block: item.shared.map_or(0, |i| context.plan.shared[i]),
        ibody: &item.ibody,
    };
    raw.encode(item.number, context.seed)
}

/// The blocks of all directories, cut where their places are.
fn dir_blocks(survey: &Survey, plan: &Plan, seed: Csum) -> Vec<Placed> {
    let both: Vec<_> = survey.items.iter().zip(&plan.places).collect();
    let made = both.par_iter().flat_map_iter(|(item, place)| {
        let bytes = match &item.body {
            Body::Dir { layout, entries, parent } => {
                layout.blocks(entries, Owner { inode: item.number, parent: *parent }, seed)
            }
            _ => Vec::new(),
        };
        let extents = if bytes.is_empty() { &[][..] } else { &place.extents };
        extents.iter().map(move |extent| {
            let (from, to) = byte_range(extent);
            (extent.run.start, bytes[from as usize..to as usize].to_vec())
        })
    });
    made.collect()
}

fn byte_range(extent: &Extent) -> (u64, u64) {
    let from = u64::from(extent.logical) * BLOCK;
    (from, from + extent.run.len * BLOCK)
}

fn contents<'a>(pieces: &mut Vec<Piece<'a>>, item: &Item<'a>, place: &Place, offset: u64) {
    let targets = place.extents.iter().map(|extent| {
        let (from, to) = byte_range(extent);
        Target { from, to, at: offset + extent.run.start * BLOCK }
    });
    match &item.body {
        Body::File { content, .. } => push_content(pieces, content, targets),
        Body::Target(bytes) => {
            pieces.extend(targets.map(|t| Piece { at: t.at, data: Data::Borrowed(bytes) }))
        }
        Body::None | Body::Dir { .. } => {}
    }
}
