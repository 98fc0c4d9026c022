/**
 * Every bound of Hawser, with its reason. A layer that needs a new one adds it here.
 */

/** Longest node name, RFC 7143 §4.2.7.1. */
export const MAX_NODE_NAME_BYTES = 223;

/** Largest MaxRecvDataSegmentLength, RFC 7143 §13.12; the field has 24 bits. */
export const MAX_DATA_SEGMENT_BYTES = 0xff_ffff;

/** What we declare as MaxRecvDataSegmentLength: large enough that headers do not matter, small enough for memory. */
export const DEFAULT_MAX_RECV_DATA_SEGMENT_BYTES = 262_144;

/** Text we accept in one negotiation over all its PDUs: RFC 7143 §6.1 asks for at least 8192. */
export const MAX_TEXT_NEGOTIATION_BYTES = 65_536;

/** Text we accept in one SendTargets answer: some thousand targets with their portals. */
export const MAX_SEND_TARGETS_BYTES = 16_777_216;

/** Longest AHS list we accept: TotalAHSLength has 8 bits and counts words, RFC 7143 §11.2.1.5. */
export const MAX_AHS_BYTES = 255 * 4;

/** Redirects followed in one login before it fails: more is a loop. */
export const MAX_LOGIN_REDIRECTS = 8;

/** Round trips in one login before it fails: a peer that never finishes must not hold us. */
export const MAX_LOGIN_EXCHANGES = 32;

/** Longest CHAP challenge and response, RFC 7143 §12.1.3. */
export const MAX_CHAP_BINARY_BYTES = 1024;

/** Shortest CHAP secret, RFC 7143 §9.2.1: 96 bits. */
export const MIN_CHAP_SECRET_BYTES = 12;

/** Commands in flight per session: bounds the task table and its memory. */
export const MAX_TASKS_PER_SESSION = 1024;

/** Unit attentions absorbed for one command before it fails: a target that always has one more is broken. */
export const MAX_UNIT_ATTENTIONS_PER_COMMAND = 16;

/** Largest NBD request we serve: the kernel sends at most 32 MiB. */
export const MAX_NBD_REQUEST_BYTES = 33_554_432;

/** Longest NBD option or export name: the protocol's own limit is 4096. */
export const MAX_NBD_OPTION_BYTES = 4_096;

/** Requests one NBD connection may have in flight; beyond it we stop reading the socket. */
export const MAX_NBD_REQUESTS_IN_FLIGHT = 256;

/** Payload bytes one NBD connection may have in flight; beyond it we stop reading the socket. */
export const MAX_NBD_BYTES_IN_FLIGHT = 67_108_864;
