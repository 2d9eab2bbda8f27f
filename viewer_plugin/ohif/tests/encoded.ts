/** A frame as the server writes it. */
export function encoded(header: object, voxels: Uint8Array | Uint16Array): ArrayBuffer {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + voxels.byteLength);
  bytes.set(new TextEncoder().encode('ANF1'));
  new DataView(bytes.buffer).setUint32(4, text.length, true);
  bytes.set(text, 8);
  bytes.set(new Uint8Array(voxels.buffer, voxels.byteOffset, voxels.byteLength), 8 + text.length);
  return bytes.buffer;
}
