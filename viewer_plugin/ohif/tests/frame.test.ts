import { expect, test } from 'vitest';
import { decodeFrame, encodeEdit, type Box } from '../src/server/frame';
import { encoded } from './encoded';

const HEADER = { revision: 7, box_kji: [[1, 2, 3], [2, 4, 6]], dtype: 'uint8', geometry: 'g', segments: null, notes: ['n'], can_undo: true, can_redo: false };

test('a frame is read as it was written', () => {
  const frame = decodeFrame(encoded(HEADER, Uint8Array.of(1, 2, 3, 4, 5, 6)));
  expect(frame).toMatchObject({ revision: 7, box: { start: [1, 2, 3], stop: [2, 4, 6] }, notes: ['n'], canUndo: true, canRedo: false, segments: null });
  expect([...frame.voxels]).toEqual([1, 2, 3, 4, 5, 6]);
});

test.each(['a', 'ab'])('two-byte voxels are read behind a header of any length', filling => {
  const frame = decodeFrame(encoded({ ...HEADER, dtype: 'uint16', geometry: filling }, Uint16Array.of(1, 300, 3, 4, 5, 65535)));
  expect([...frame.voxels]).toEqual([1, 300, 3, 4, 5, 65535]);
});

test('what is no frame, cut off, or of another size is refused', () => {
  const whole = encoded(HEADER, Uint8Array.of(1, 2, 3, 4, 5, 6));
  expect(() => decodeFrame(new ArrayBuffer(3))).toThrow('too short');
  expect(() => decodeFrame(new TextEncoder().encode('{"title": 1}').buffer as ArrayBuffer)).toThrow('ANF1');
  expect(() => decodeFrame(whole.slice(0, 40))).toThrow('ends within');
  expect(() => decodeFrame(whole.slice(0, whole.byteLength - 1))).toThrow('box');
  expect(() => decodeFrame(encoded({ ...HEADER, dtype: 'float32' }, Uint8Array.of(1, 2, 3, 4, 5, 6)))).toThrow('float32');
});

test('an edit comes out of its own bytes again', () => {
  const box: Box = { start: [0, 1, 2], stop: [1, 3, 4] };
  const frame = decodeFrame(encodeEdit(box, Uint8Array.of(9, 8, 7, 6), 12, 'grid').buffer);
  expect(frame).toMatchObject({ box, revision: 12, geometry: 'grid' });
  expect([...frame.voxels]).toEqual([9, 8, 7, 6]);
});
