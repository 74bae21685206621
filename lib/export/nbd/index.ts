export type { MetaContext, NbdExport } from './export.js';
export { type ExportOptions, type OpenExport, openExport } from './open.js';
export { type NbdAddress, NbdServer, type NbdServerOptions, type NbdTls } from './server.js';
export { NbdSession, type Step } from './session.js';
export { tlsFromFolder } from './tls.js';
