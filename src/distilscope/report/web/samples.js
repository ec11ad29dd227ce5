"use strict";
// The texts as a table: which columns stand in it, and by whose surprise its rows are sorted, is the reader's choice.
{
  const place = document.getElementById("samples");
  if (place) {
    const { columns, shown, rows } = JSON.parse(document.getElementById("samples-data").textContent);
    const visible = new Set(shown);
    const AT_ONCE = 10;
    let sorted = null, count = AT_ONCE;

    const make = (tag, text, className) => {
      const element = document.createElement(tag);
      if (text !== undefined) element.textContent = text;
      if (className) element.className = className;
      return element;
    };
    const readable = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f]/g, (sign) => String.fromCharCode(0x2400 + sign.charCodeAt(0))).replace(/\u007f/g, "\u2421");

    const choices = make("fieldset", undefined, "choices");
    choices.append(make("legend", "Columns"));
    columns.forEach((column, at) => {
      const label = make("label"), box = make("input");
      box.type = "checkbox";
      box.checked = visible.has(at);
      box.addEventListener("change", () => {
        box.checked ? visible.add(at) : visible.delete(at);
        draw();
      });
      label.append(box, " ", make("span", `${column.glyph} ${column.name}`, `role role-${column.role}`));
      choices.append(label);
    });
    const table = make("table", undefined, "texts"), around = make("div", undefined, "wide"), more = make("button", undefined, "more");
    more.type = "button";
    more.addEventListener("click", () => { count += 2 * AT_ONCE; draw(); });
    around.append(table);
    place.append(choices, around, more);

    const order = () => {
      const all = Array.from({ length: rows }, (_, row) => row);
      if (sorted === null) return all;
      const by = columns[sorted].surprise;
      return all.sort((one, other) => (by[other] ?? -Infinity) - (by[one] ?? -Infinity) || one - other);
    };

    const heading = (column, at) => {
      const cell = make("th");
      cell.scope = "col";
      cell.setAttribute("aria-sort", sorted === at ? "descending" : "none");
      cell.append(make("div", `${column.glyph} ${column.name}`, `role role-${column.role}`));
      if (column.sortable) {
        const button = make("button", sorted === at ? "most surprising first ↓" : "sort by surprise", "sort");
        button.type = "button";
        button.dataset.column = at;
        button.setAttribute("aria-label", `Sort by how much ${column.surprised} is surprised by ${column.name}`);
        button.addEventListener("click", () => {
          sorted = sorted === at ? null : at;
          draw();
          table.querySelector(`.sort[data-column="${at}"]`).focus();
        });
        cell.append(button);
      }
      return cell;
    };

    const body = (column, row) => {
      const cell = make("td"), text = make("div", undefined, "text"), { text: words, tokens, ended } = column.texts[row];
      if (column.prompts) text.append(make("span", readable(column.prompts[row]), "prompt"));
      text.append(readable(words));
      const surprise = column.surprise[row], facts = [`${tokens} tokens${ended ? ", ended" : ""}`];
      if (surprise !== null) facts.unshift(`${surprise.toFixed(1).replace("-", "−")} nats to ${column.surprised}`);
      cell.append(text, make("div", facts.join("; "), "surprise"));
      return cell;
    };

    const draw = () => {
      const inView = columns.map((column, at) => [column, at]).filter(([, at]) => visible.has(at));
      const head = make("tr"), number = make("th", "draw", "number");
      number.scope = "col";
      head.append(number, ...inView.map(([column, at]) => heading(column, at)));
      const lines = order().slice(0, count).map((row) => {
        const line = make("tr"), name = make("th", String(row + 1), "number");
        name.scope = "row";
        line.append(name, ...inView.map(([column]) => body(column, row)));
        return line;
      });
      const top = make("thead"), rest = make("tbody");
      top.append(head);
      rest.append(...lines);
      table.replaceChildren(top, rest);
      table.style.minWidth = `${4 + 15 * inView.length}rem`;
      more.hidden = count >= rows;
      more.textContent = `Show more (${Math.min(count, rows)} of ${rows})`;
    };
    draw();
  }
}
