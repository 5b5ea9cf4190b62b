// New elements.

/** A new element with properties and children; keys with a dash become attributes.
 * @template {keyof HTMLElementTagNameMap} Tag @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]> & Record<`${string}-${string}`, string>} [properties]
 * @param {(Node | string)[]} children */
export function make(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (key.includes("-")) node.setAttribute(key, String(value));
    else Object.assign(node, { [key]: value });
  }
  node.append(...children);
  return node;
}

/** Names a CSS part. @template {HTMLElement} Node @param {string} name @param {Node} node */
export function part(name, node) {
  node.setAttribute("part", name);
  return node;
}
