/** A minimal XML writer: elements, attributes, text; characters that XML 1.0 cannot hold are replaced. */
export interface Element {
  readonly tag: string;
  readonly attributes?: Readonly<Record<string, string | undefined>>;
  readonly children?: readonly (Element | undefined)[];
  readonly text?: string;
  /** Text that is known to need no escapes. */
  readonly raw?: string;
}

export const el = (
  tag: string,
  text: string | undefined,
  attributes: Readonly<Record<string, string | undefined>> = {},
): Element | undefined => (text === undefined ? undefined : { tag, text, attributes });

// XML 1.0, section 2.2: anything but tab, newline, return and these ranges is no character.
const NO_CHAR = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu;
const escapeText = (s: string) =>
  s
    .replace(NO_CHAR, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll('\r', '&#13;');

export function xml(root: Element): string {
  const lines = ['<?xml version="1.0"?>'];
  const write = (e: Element, indent: string) => {
    const attributes = Object.entries(e.attributes ?? {})
      .filter(([, v]) => v !== undefined)
      .map(([k, v]) => ` ${k}="${escapeText(v!).replaceAll('\n', '&#10;').replaceAll('\t', '&#9;')}"`)
      .join('');
    const children = (e.children ?? []).filter((c): c is Element => c !== undefined);
    if (e.raw !== undefined) lines.push(`${indent}<${e.tag}${attributes}>${e.raw}</${e.tag}>`);
    else if (e.text !== undefined) lines.push(`${indent}<${e.tag}${attributes}>${escapeText(e.text)}</${e.tag}>`);
    else if (children.length === 0) lines.push(`${indent}<${e.tag}${attributes}/>`);
    else {
      lines.push(`${indent}<${e.tag}${attributes}>`);
      for (const c of children) write(c, `${indent}  `);
      lines.push(`${indent}</${e.tag}>`);
    }
  };
  write(root, '');
  return `${lines.join('\n')}\n`;
}
