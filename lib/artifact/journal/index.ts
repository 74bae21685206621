/** systemd's journal, read without systemd. */
export { JournalEntry, JournalField } from './entry.js';
export { JournalFile } from './file.js';
export { journalJson } from './json.js';
export { mergeEntries } from './merge.js';
export type { ByteFile } from './pages.js';
