/**
 * Numbers of the NBD protocol, shared by our client and our server.
 * https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
 */

/** Eight-byte magics as two words, because they are compared as such. */
export const MAGIC = { hi: 0x4e42444d, lo: 0x41474943 } as const; // "NBDMAGIC"
export const OPTION_MAGIC = { hi: 0x49484156, lo: 0x454f5054 } as const; // "IHAVEOPT"
export const OLDSTYLE_MAGIC = { hi: 0x00004202, lo: 0x81861253 } as const;
export const OPTION_REPLY_MAGIC = { hi: 0x0003e889, lo: 0x045565a9 } as const;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

export const REQUEST_SIZE = 28;
export const EXTENDED_REQUEST_SIZE = 32;
export const SIMPLE_REPLY_SIZE = 16;
export const STRUCTURED_REPLY_SIZE = 20;
export const EXTENDED_REPLY_SIZE = 32;

/** Handshake flags of the server; the client answers with the same bits. */
export const FIXED_NEWSTYLE = 1;
export const NO_ZEROES = 2;

export const OPT = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

const ERROR = 0x80000000;
export const REP = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: ERROR + 1,
  ERR_POLICY: ERROR + 2,
  ERR_INVALID: ERROR + 3,
  ERR_PLATFORM: ERROR + 4,
  ERR_TLS_REQD: ERROR + 5,
  ERR_UNKNOWN: ERROR + 6,
  ERR_SHUTDOWN: ERROR + 7,
  ERR_BLOCK_SIZE_REQD: ERROR + 8,
  ERR_TOO_BIG: ERROR + 9,
  ERR_EXT_HEADER_REQD: ERROR + 10,
} as const;

export const INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

/** Transmission flags: what an export can do. */
export const FLAG = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  ROTATIONAL: 1 << 4,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_RESIZE: 1 << 9,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
} as const;

export const CMD = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

/** Command flags. */
export const CMD_FUA = 1;
export const CMD_NO_HOLE = 2;
export const CMD_DF = 4;
export const CMD_REQ_ONE = 8;
export const CMD_FAST_ZERO = 16;
export const CMD_PAYLOAD_LEN = 32;

/** Chunks of a structured reply. */
export const CHUNK = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const;
export const CHUNK_DONE = 1;
/** Set in the type of every chunk that tells of an error. */
export const CHUNK_IS_ERROR = 0x8000;

export const BASE_ALLOCATION = 'base:allocation';
export const ALLOCATION_DEPTH = 'qemu:allocation-depth';
export const DIRTY_BITMAP = 'qemu:dirty-bitmap:';
export const STATE_HOLE = 1;
export const STATE_ZERO = 2;

export const ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** Bytes of one read or write that each side must accept when nothing else was agreed on. */
export const MAX_PAYLOAD = 32 << 20;
/** Bytes of an export's or a context's name. */
export const MAX_STRING = 4096;
export const DEFAULT_PORT = 10809;

export const getU64 = (v: DataView, at: number): number => v.getUint32(at) * 0x1_0000_0000 + v.getUint32(at + 4);
export function setU64(v: DataView, at: number, value: number): void {
  v.setUint32(at, Math.floor(value / 0x1_0000_0000));
  v.setUint32(at + 4, value >>> 0);
}
