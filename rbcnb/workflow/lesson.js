// The page of the lesson: draws its charts one after the other, and marks the section that is read.
(async () => {
  const links = [...document.querySelectorAll("nav a")];
  const mark = (name) => {
    for (const link of links) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  };
  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => mark(target.id)),
    { rootMargin: "-20% 0px -70% 0px" },
  );
  document.querySelectorAll("section").forEach((section) => seen.observe(section));
  addEventListener("beforeprint", () => document.querySelectorAll("details.more").forEach((part) => (part.open = true)));
  const exercises = JSON.parse(document.getElementById("exercises").textContent);
  document.querySelectorAll("form.exercise").forEach((form) => showExercise(form, exercises[form.dataset.key]));
  for (const root of document.querySelectorAll(".rbcnb-explorer")) {
    await showExplorer(root, JSON.parse(root.nextElementSibling.textContent), window.rbcnbVega);
  }
  document.documentElement.dataset.ready = "yes";
})();
