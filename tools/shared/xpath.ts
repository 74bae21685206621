import { readFileSync } from 'node:fs';
import { GuestError } from '../../lib/index.js';
import { out } from './output.js';

/** virt-inspector --xpath: nodes as XML, one after another; strings, numbers and booleans as they are. */
export async function printXPath(query: string): Promise<number> {
  const { XmlDocument, XmlElement } = await import('libxml2-wasm');
  let doc: InstanceType<typeof XmlDocument>;
  try {
    doc = XmlDocument.fromBuffer(readFileSync(0));
  } catch (e) {
    throw new GuestError('usage', `standard input is no XML: ${e instanceof Error ? e.message.trim() : String(e)}`);
  }
  try {
    let result: ReturnType<typeof doc.eval>;
    try {
      result = doc.eval(query);
    } catch (e) {
      throw new GuestError('usage', `--xpath: ${e instanceof Error ? e.message.trim() : String(e)}`);
    }
    if (Array.isArray(result)) {
      for (const node of result) out.line(node instanceof XmlElement ? node.toString() : node.content);
      return result.length > 0 ? 0 : 1;
    }
    out.line(String(result));
    return 0;
  } finally {
    doc.dispose();
  }
}
