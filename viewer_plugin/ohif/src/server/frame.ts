// The frame on the wire (annotate_server/imaging/frame.py): "ANF1", the length of the header (u32, little endian), the
// header (JSON), then the voxels of the box, i fastest.
import type { SegmentView } from './types';

export type Triple = [number, number, number];
export type Voxels = Uint8Array | Uint16Array;

/** A box (k, j, i): from start, up to but without stop. */
export interface Box { start: Triple; stop: Triple }

export interface Frame {
  revision: number;
  box: Box;
  voxels: Voxels;
  geometry: string;
  segments: SegmentView[] | null;
  notes: string[];
  canUndo: boolean;
  canRedo: boolean;
}

export const MEDIA_TYPE = 'application/x-annotate-frame';
const MAGIC = 0x31464e41; // "ANF1" as a little-endian number

export function shapeOf({ start, stop }: Box): Triple {
  return [stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]];
}

export function countOf(box: Box): number {
  const [k, j, i] = shapeOf(box);
  return k * j * i;
}

export function decodeFrame(content: ArrayBuffer): Frame {
  if (content.byteLength < 8) throw new Error('the answer is no frame: it is too short');
  const head = new DataView(content);
  if (head.getUint32(0, true) !== MAGIC) throw new Error('the answer is no frame: it does not begin with ANF1');
  const length = head.getUint32(4, true);
  if (8 + length > content.byteLength) throw new Error('the frame ends within its header');
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 8, length)));
  const box: Box = { start: header.box_kji[0], stop: header.box_kji[1] };
  return {
    revision: header.revision,
    box,
    voxels: voxelsOf(content, 8 + length, header.dtype, countOf(box)),
    geometry: header.geometry,
    segments: header.segments ?? null,
    notes: header.notes ?? [],
    canUndo: header.can_undo === true,
    canRedo: header.can_redo === true,
  };
}

function voxelsOf(content: ArrayBuffer, offset: number, dtype: string, count: number): Voxels {
  const width = dtype === 'uint8' ? 1 : dtype === 'uint16' ? 2 : 0;
  if (!width) throw new Error(`the frame has voxels of ${dtype}`);
  if (content.byteLength - offset !== count * width) {
    throw new Error(`the frame has ${content.byteLength - offset} bytes of voxels, and its box ${count} voxels`);
  }
  // two-byte numbers must begin at an even address
  return width === 1 ? new Uint8Array(content, offset, count) : new Uint16Array(content.slice(offset));
}

/** An edit: the voxels of a box as they shall be, made on a revision. */
export function encodeEdit(box: Box, voxels: Uint8Array, revision: number, geometry: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify({ revision, box_kji: [box.start, box.stop], dtype: 'uint8', geometry }));
  const bytes = new Uint8Array(8 + text.length + voxels.length);
  const head = new DataView(bytes.buffer);
  head.setUint32(0, MAGIC, true);
  head.setUint32(4, text.length, true);
  bytes.set(text, 8);
  bytes.set(voxels, 8 + text.length);
  return bytes;
}
