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

/** Time to connect at a portal that may be behind a network that went silent, while others are known: some retransmits. */
export const SILENT_PORTAL_CONNECT_MS = 3_000;

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

/** Longest plaintext we seal to a node: two CHAP pairs with room, and small enough for a publish context. */
export const MAX_SEALED_PLAINTEXT_BYTES = 8_192;

/** Longest `node_id` of CSI. */
export const MAX_CSI_NODE_ID_BYTES = 256;

/** Longest volume handle we take: CSI says 128 bytes; in-tree static volumes may be longer. */
export const MAX_VOLUME_HANDLE_BYTES = 1_024;

/** Largest volume record we read: a sound one is some kilobytes. */
export const MAX_VOLUME_RECORD_BYTES = 262_144;

/** Events the dataplane keeps; the oldest goes. */
export const MAX_DATAPLANE_EVENTS = 1_024;

/** Events that wait for one slow watcher before its oldest are dropped. */
export const MAX_EVENTS_PER_WATCHER = 1_024;

/** Watchers of dataplane events at one time. */
export const MAX_DATAPLANE_WATCHERS = 64;

/** Conditions of the node itself that are shown: damaged records and the like come one by one, or all at once. */
export const MAX_NODE_CONDITIONS = 64;

/** Kubernetes events that wait for the API server; beyond it they are dropped. Repeated ones count once. */
export const MAX_PENDING_EVENTS = 256;

/** Delivered Kubernetes events that later ones of the same kind are added to. */
export const MAX_REMEMBERED_EVENTS = 1_024;

/** Pods remembered for one volume to tell them what happens to it. */
export const MAX_PODS_PER_VOLUME = 64;

/** Largest file about the users of a volume we read: the bound of pods with their longest names fits. */
export const MAX_EVENT_SUBJECT_BYTES = 262_144;

/** Longest note of a Kubernetes event: the API server refuses longer ones. */
export const MAX_EVENT_NOTE_BYTES = 1_024;

/** Volumes one node carries: more than any kubelet places there, and it bounds memory. */
export const MAX_VOLUMES_PER_NODE = 1_024;

/** Largest message on the control socket: a full list of volumes with their sessions. */
export const MAX_CONTROL_MESSAGE_BYTES = 16_777_216;

/** Volume sizes are whole blocks of the larger of the two block sizes, so that a volume can be had with either. */
export const VOLUME_SIZE_STEP_BYTES = 4_096;

/** Smallest volume: below it no file system has room for its own tables. */
export const MIN_VOLUME_BYTES = 1_048_576;

/** Largest volume: the largest file ext4 holds with 4096-byte blocks, where a volume may live. */
export const MAX_VOLUME_BYTES = 16 * 2 ** 40 - VOLUME_SIZE_STEP_BYTES;

/** What CreateVolume makes when nobody says how large. */
export const DEFAULT_VOLUME_BYTES = 2 ** 30;

/** Longest volume name: CSI asks drivers to take 128 bytes. */
export const MAX_VOLUME_NAME_BYTES = 256;

/** Longest volume or node id, token or path in a CSI request; the specification's own limit is 128 for most strings. */
export const MAX_CSI_STRING_BYTES = 4_096;

/** Largest map in a CSI request: the specification allows 4 KiB of keys and values; the rest is slack. */
export const MAX_CSI_MAP_BYTES = 65_536;

/** Volumes in one answer of ListVolumes: keeps the message far below gRPC's 4 MiB. */
export const MAX_LISTED_VOLUMES = 1_000;

/** Initiators one volume may be granted to at once. */
export const MAX_GRANTS_PER_VOLUME = 256;

/** Largest metadata file of a volume we read: grants at their longest, and some slack. */
export const MAX_VOLUME_METADATA_BYTES = 1_048_576;

/** Portals in one set of volume attributes: more is a mistake. */
export const MAX_PORTALS_PER_VOLUME = 64;

/** Control requests (NOP, task management, text, logout) of one session that wait for an answer, late ones included. */
export const MAX_CONTROL_EXCHANGES = 256;

/** Commands that wait in one session for a window, a slot or a path; beyond it they fail at once. */
export const MAX_QUEUED_TASKS_PER_SESSION = 16_384;

/** Slab that PDU headers are written into: some thousand headers per allocation, and little memory for an idle connection. */
export const PDU_SLAB_BYTES = 65_536;

/** Data segments up to this length are copied next to their header: cheaper than one more entry in a gather write. */
export const SMALL_DATA_SEGMENT_BYTES = 512;

/** Longest key of a text negotiation, RFC 7143 §6.1 (standard-label). */
export const MAX_TEXT_KEY_BYTES = 63;

/** Longest simple value of a text key, RFC 7143 §6.1. */
export const MAX_TEXT_SIMPLE_VALUE_BYTES = 255;

/** Longest value of any other text key (lists, binary values, keys unknown to us): room for all of §12 and §13. */
export const MAX_TEXT_VALUE_BYTES = 8_192;

/** Extension keys one login offers: somebody who needs more is not negotiating. */
export const MAX_EXTENSION_KEYS = 16;

/** Pairs in one text: SendTargets over the largest text we accept has fewer, since a name takes some 40 bytes. */
export const MAX_TEXT_PAIRS = 262_144;

/** PDUs a target may send between the end of a login and our first command: some NOP-In or async messages. */
export const MAX_HELD_PDUS = 64;

/** CHAP challenges remembered to notice reflection: more logins than this are never under way at once. */
export const MAX_OUTSTANDING_CHAP_CHALLENGES = 4_096;

/** Data of one NBD option: a name and some queries of the protocol's length; larger ones are skipped and refused. */
export const MAX_NBD_OPTION_PAYLOAD_BYTES = 16_384;

/** Options in one NBD handshake before it is cut: a client needs about five. */
export const MAX_NBD_OPTIONS = 256;

/** Longest NBD handshake: a client that connects and says nothing must not hold a connection. */
export const NBD_HANDSHAKE_TIMEOUT_MS = 30_000;

/** Clients of one NBD server at a time; qemu and nbdcopy open up to 16 each. */
export const MAX_NBD_CONNECTIONS = 256;

/** Payload buffers one NBD server keeps for reuse: a deep queue of mid-sized requests. */
export const MAX_NBD_IDLE_BUFFER_BYTES = 16_777_216;

/** Extents in one BLOCK_STATUS answer: 64 KiB of answer; the client asks again for the rest. */
export const MAX_NBD_EXTENTS = 8_192;

/** Largest request the split filter announces: what the kernel nbd client sends at most. */
export const MAX_BLOCK_REQUEST_BYTES = 33_554_432;

/** Pieces of one split request in flight at once: hides the round trip without filling the command window. */
export const SPLIT_REQUESTS_IN_FLIGHT = 4;

/** Round trips of one text negotiation: a long SendTargets answer in the smallest segments still fits. */
export const MAX_TEXT_EXCHANGES = 32_768;

/** Commands one session of the embedded target may have in flight: its share of the command window. */
export const TARGET_QUEUE_DEPTH = 128;

/** Immediate commands one session of the embedded target works on at once; more are rejected (RFC 7143 §11.17.1). */
export const TARGET_MAX_IMMEDIATE_TASKS = 32;

/** Sessions of one embedded target server: each costs some kilobytes, and a node needs one per volume and path. */
export const TARGET_MAX_SESSIONS = 4_096;

/** TCP connections of one embedded target server, those still logging in included. */
export const TARGET_MAX_CONNECTIONS = 4_352;

/** Time a connection of the embedded target has to finish its login. */
export const TARGET_LOGIN_TIMEOUT_MS = 15_000;

/** Data one session of the embedded target holds in memory before reads wait their turn; a connection may leave twice that unread. */
export const TARGET_MAX_DATA_BYTES_PER_CONNECTION = 67_108_864;

/** Data buffers an embedded target server keeps for reuse. */
export const TARGET_POOL_BYTES = 67_108_864;

/** Connections one session of the embedded target may have: more than the paths of any host, fewer than cost much. */
export const TARGET_MAX_CONNECTIONS_PER_SESSION = 8;

/** Unsolicited data one session of the embedded target keeps for commands that came before their turn; more is dropped. */
export const TARGET_MAX_EARLY_DATA_BYTES = 33_554_432;

/** Time an initiator has to acknowledge the responses before a fenced one (RFC 7143 §4.2.2.3), before its silent connections are dropped. */
export const TARGET_FENCE_TIMEOUT_MS = 10_000;

/** Time the embedded target waits for missing commands and outstanding data before it aborts a task set (RFC 7143 §4.2.3.3). */
export const TARGET_ABORT_WAIT_MS = 3_000;

/** Responses one connection of the embedded target keeps for a Status SNACK; an initiator that acknowledges none of them loses the oldest. */
export const TARGET_MAX_UNACKNOWLEDGED_STATUS = 1_024;

/** Time without a Data-Out PDU after which the embedded target asks again with a recovery R2T (RFC 7143 §7.1.4.1). */
export const TARGET_DATA_TIMEOUT_MS = 5_000;

/** Time the embedded target looks for a good PDU header after a damaged one (RFC 7143 §7.8), before it closes the connection. */
export const TARGET_RESYNCHRONISATION_TIMEOUT_MS = 5_000;

/** Recovery R2Ts for one command before it ends with an error: a path that damages all data must not hold it for ever. */
export const TARGET_MAX_RECOVERY_R2TS = 16;

/** Idle time after which the embedded target pings an initiator, and the time that has to answer. */
export const TARGET_PING_INTERVAL_MS = 30_000;

/** How long a connection we closed in order may wait for the peer to close it too, before it is destroyed. */
export const SOCKET_LINGER_MS = 5_000;

/** Time a program of the host gets by default; mkfs and fsck of large volumes get more from their callers. */
export const COMMAND_TIMEOUT_MS = 120_000;

/** Time a killed program gets to end before we stop waiting: it may hang in the kernel on a dead disk. */
export const COMMAND_KILL_GRACE_MS = 2_000;

/** Output of one program of the host that we keep: the largest we read is a MiB of a disk. */
export const MAX_COMMAND_OUTPUT_BYTES = 4_194_304;

/** End of the error output of a program of the host that we keep for messages. */
export const MAX_COMMAND_STDERR_BYTES = 16_384;

/** What must be zero at either end of a device before a file system is made: every known signature lies there. */
export const ZERO_CHECK_BYTES = 1_048_576;

/** Mounts stacked on one place that an unmount removes: more is a loop somewhere else. */
export const MAX_STACKED_MOUNTS = 16;

/** Time a look at a mount may take before the mount counts as not answering. */
export const MOUNT_PROBE_TIMEOUT_MS = 5_000;

/** Room at the end of a device that a file system may leave unused; below it, growing is not worth a try. */
export const FILESYSTEM_GROW_SLACK_BYTES = 4_194_304;

/** Time mkfs, fsck and grow may take: several TiB on a slow array. */
export const FILESYSTEM_TOOL_TIMEOUT_MS = 900_000;

/** Volume records a node keeps: those of volumes long gone are dropped beyond it, oldest first. */
export const MAX_VOLUME_RECORDS = 4_096;

/** Volumes brought back at one time after a restart: enough to be quick, few enough not to flood an array. */
export const MAX_CONCURRENT_RESUMES = 32;

/** Times one command is repeated after an answer that may be a passing fault, before it fails. */
export const MAX_COMMAND_RETRIES = 10;

/** Time a check of a reconnected unit waits for "busy" and "becoming ready" before the path is tried anew. */
export const MAX_PROBE_WAIT_MS = 30_000;

/** Processes looked at for who holds a device: more than a large node runs. */
export const MAX_SCANNED_PROCESSES = 32_768;

/** REPORT LUNS data accepted: 16383 units, all that single-level addressing has, and as many again. */
export const MAX_REPORT_LUNS_BYTES = 262_144;

/** Time nbdfuse has to show its file: it connects to our own socket, so much less is normal. */
export const FUSE_START_TIMEOUT_MS = 15_000;

/** Time nbdfuse has to end after its file system was unmounted, and a loop device to let go of the file. */
export const FUSE_STOP_TIMEOUT_MS = 5_000;

/** Wait for a bound device's node, size and first block: all are immediate on a healthy node. */
export const DEVICE_READY_TIMEOUT_MS = 10_000;

/** Attempts to give a device of a dead process a new socket: the kernel may take a moment to see the old one die. */
export const MAX_NBD_RECOVERY_ATTEMPTS = 40;

/** Largest record of a staged volume we read: a handle and a path at their longest, and some slack. */
export const MAX_STAGE_RECORD_BYTES = 65_536;

/** Characters of the kubelet's words about a refused registration that we repeat. */
export const MAX_REGISTRATION_ERROR_LENGTH = 1_024;

/** Time one health check may take; the kubelet's probes in the chart wait longer, so that they hear the reason. */
export const HEALTH_CHECK_TIMEOUT_MS = 3_000;

/** Connections to the health address at one time: the kubelet needs one, and nobody else matters. */
export const MAX_HEALTH_CONNECTIONS = 32;

/** Numbered PDUs a connection keeps while one before them is missing: all tasks and control requests may be answered. */
export const MAX_HELD_STATUS_PDUS = 2_048;

/** Data-In PDUs of one task kept note of while one before them is missing: 16 MiB in the smallest segments. */
export const MAX_EARLY_DATA_PDUS = 32_768;

/** R2Ts of one task kept while one before them is missing: more were never agreed on. */
export const MAX_EARLY_R2TS = 64;

/** Times a retransmission is asked for before the connection is given up: a peer that ignores three ignores all. */
export const MAX_SNACK_TRIES = 4;

/** Times a command is sent again with its number before the connection is given up. */
export const MAX_COMMAND_RETRANSMISSIONS = 8;

/** Tags of tasks that ended without their answer, kept to know a late answer: as many as can be at the target. */
export const MAX_ABANDONED_TASKS = 4_096;

/** Connections of one session: more only cost, and every target has a limit below this. */
export const MAX_CONNECTIONS_PER_SESSION = 64;

/** Time a unit with other paths may answer "busy" over one of them before a command goes over another. */
export const MAX_PATH_BUSY_MS = 5_000;

/** Paths of one volume: sources times portals; more is a mistake, and the record of a volume holds as many ISIDs. */
export const MAX_PATHS_PER_VOLUME = 32;

/** How often the interfaces of the node are looked at for paths that were not possible before. */
export const PATH_PLAN_INTERVAL_MS = 10_000;

/** Time for an array to let one of the paths take requests that were made: an access state may have to change. */
export const PATHS_USABLE_TIMEOUT_MS = 60_000;

/** Interfaces and addresses that the paths of a volume may begin at: with four portals each they are a multiple of the paths kept. */
export const MAX_PATH_SOURCES_PER_VOLUME = 16;

/** Longest name of a path: an interface, an address and a portal at their longest. */
export const MAX_PATH_ID_CHARACTERS = 512;

/** Times a path goes down within FLAP_WINDOW_MS before it is left alone: once or twice is a cable or a reboot. */
export const FLAP_FALLS = 3;

/** Time in which the falls of a path count as one run: a switch that restarts needs about as long. */
export const FLAP_WINDOW_MS = 60_000;

/** Time a path that comes and goes is left alone first: longer than it lasted up. */
export const FLAP_DAMPING_MS = 10_000;

/** Longest time a path that comes and goes is left alone: an operator who mended it need not wait longer. */
export const MAX_FLAP_DAMPING_MS = 300_000;

/** First pause before a path that failed a request is asked whether it is well: long enough for a burst to end. */
export const SUSPECT_PROBE_MS = 100;

/** Longest pause between two questions to a suspect path: soon enough after it was mended. */
export const MAX_SUSPECT_PROBE_MS = 5_000;

/** First pause before access states are read again while no path takes requests: most transitions are this quick. */
export const ACCESS_STATE_POLL_MS = 250;

/** Longest pause between two readings of access states while no path takes requests, or after a change. */
export const MAX_ACCESS_STATE_POLL_MS = 750;

/** Time after a change of access states in which the next is looked for: a controller that changes places needs about as long. */
export const ACCESS_STATE_WATCH_MS = 60_000;

/** Least time between two attempts to set an access state: nodes that want different groups must not make it swing. */
export const SET_PORT_GROUPS_INTERVAL_MS = 5_000;

/** Age at which the throughput measured for a path says nothing any more, so that it is tried again. */
export const MAX_THROUGHPUT_AGE_MS = 10_000;

/** Room first given for a list of registrations or keys: a hundred keys, or a dozen registrations with their names. */
export const RESERVATION_LIST_BYTES = 1_024;

/** Most room that PERSISTENT RESERVE IN can give (its allocation length has two bytes): 8,000 keys, 800 registrations. */
export const MAX_RESERVATION_LIST_BYTES = 65_535;

/** Times reservations are looked at again because others changed them meanwhile: two nodes that fight settle in two. */
export const MAX_RESERVATION_ROUNDS = 8;

/** Time to give reservations back at a detach: a unit that does not answer must not hold it up, for others may preempt. */
export const RESERVATION_LEAVE_TIMEOUT_MS = 10_000;
