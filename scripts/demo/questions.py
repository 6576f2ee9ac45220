"""How customers ask. Held-out questions use templates that training never shows."""

__all__ = ["ALARMS", "ALARM_TAILS", "ASKED", "HELD_ALARMS", "HELD_ASKED", "LEADS", "TAILS"]

LEADS = {
    "en": (
        "", "", "", "Hello! ", "Hi! ", "Good day. ", "Quick question: ", "Dear team! ", "Hey there. ",
        "I am new here. ", "It is for my mother. ", "We have just bought a garden. ",
        "My neighbour praises you. ", "I cannot find it in the booklet. ", "One more thing. ",
    ),
    "ru": (
        "", "", "", "Здравствуйте! ", "Добрый день. ", "Привет! ", "Есть вопрос. ", "Уважаемые коллеги! ",
        "Доброе утро! ", "Я у вас впервые. ", "Это для мамы. ", "Мы недавно купили дачу. ",
        "Вас хвалит мой сосед. ", "Не нашёл в инструкции. ", "И ещё один вопрос. ",
    ),
}  # fmt: skip
"""What stands before a question."""

TAILS = {
    "en": (
        "", "", "", "", " Thanks!", " Thank you in advance.", " I am in no hurry.", " My wife asks.",
        " It is not on your site.", " Please be brief.",
    ),
    "ru": (
        "", "", "", "", " Спасибо!", " Заранее благодарю.", " Я не спешу.", " Жена спрашивает.",
        " На сайте этого нет.", " Ответьте коротко, пожалуйста.",
    ),
}  # fmt: skip
"""What follows a question."""

ASKED = {
    ("warranty", "en"): (
        "How long is the warranty of the {}?", "What warranty does the {} have?",
        "Tell me the warranty period for the {}.", "the {} warranty, how many months?",
        "Is there a warranty on the {} and how long is it?", "How many months of warranty come with the {}?",
        "I lost the warranty card of my {}. How long is it valid?", "When does the guarantee of a new {} end?",
    ),
    ("warranty", "ru"): (
        "Какая гарантия на {}?", "Сколько месяцев гарантии у {}?", "Какой срок гарантии на {}?",
        "гарантия на {} сколько длится?", "На сколько месяцев даётся гарантия на {}?",
        "Я купил {}. Сколько действует гарантия?", "Потерял талон на {}. Когда кончится гарантия?",
        "Есть ли гарантия на {} и какая она?",
    ),
    ("battery", "en"): (
        "How long does the battery of the {} last?", "How many hours does the {} run on one charge?",
        "What is the battery life of the {}?", "battery life {}?",
        "For how many hours does a charge of the {} last?", "How long can I use the {} without charging?",
        "How often do I have to charge the {}?", "Is the battery of the {} strong enough for a day?",
    ),
    ("battery", "ru"): (
        "Сколько часов держит заряд {}?", "На сколько хватает батареи {}?",
        "Сколько работает {} от одного заряда?", "{} сколько держит батарея?",
        "На сколько часов хватает одного заряда {}?", "Как долго {} работает без зарядки?",
        "Как часто надо заряжать {}?", "Хватит ли батареи {} на целый день?",
    ),
    ("price", "en"): (
        "How much does the {} cost?", "What is the price of the {}?", "price of {}?",
        "Tell me the price of the {}, please.", "How many euros is the {}?",
        "I want to buy the {}. How much is it?", "Is the {} expensive?", "What do you charge for a new {}?",
    ),
    ("price", "ru"): (
        "Сколько стоит {}?", "Какая цена у {}?", "{} цена?", "Скажите цену {}, пожалуйста.",
        "Сколько евро стоит {}?", "Хочу купить {}. Сколько это стоит?", "Дорогой ли {}?",
        "Почём у вас новый {}?",
    ),
    ("reset", "en"): (
        "How do I reset the {}?", "How long must I hold the button to reset the {}?",
        "My {} hangs, how do I reset it?", "reset {} how?", "Please explain the reset of the {}.",
        "What do I do to reset my {}?", "How does the {} get back to its first settings?",
        "The {} does not react any more. Which button helps?",
    ),
    ("reset", "ru"): (
        "Как сбросить {}?", "Сколько держать кнопку, чтобы сбросить {}?",
        "{} завис, как его сбросить?", "сброс {} как сделать?", "Объясните, как сбросить {}.",
        "Что сделать, чтобы сбросить {}?", "Как вернуть {} к первым настройкам?",
        "{} ни на что не реагирует. Какая кнопка поможет?",
    ),
    ("delivery", "en"): (
        "How long does delivery to {} take?", "How many days is delivery to {}?",
        "When will my parcel reach {}?", "delivery to {} how many days?",
        "I live in {}. How long is delivery?", "What is the delivery time to {}?",
        "How soon do you bring things to {}?", "Do you send parcels to {}, and how fast?",
    ),
    ("delivery", "ru"): (
        "Сколько идёт доставка {}?", "За сколько дней вы доставите {}?", "доставка {} сколько дней?",
        "Когда посылка придёт {}?", "Какой срок доставки {}?", "Сколько дней занимает доставка {}?",
        "Как скоро вы привезёте заказ {}?", "Отправляете ли вы {} и как быстро?",
    ),
    ("returns", "en"): (
        "How long can I return a device?", "What is your return window?", "Until when may I send it back?",
        "returns, how many days?", "How many days do I have for a return?", "Can I return it after a week?",
        "I do not like my device. Do you take it back?", "What are the rules for returns?",
    ),
    ("returns", "ru"): (
        "Сколько дней на возврат?", "До какого срока можно вернуть прибор?", "возврат сколько дней?",
        "Можно ли вернуть через неделю?", "Какой у вас срок возврата?", "За сколько дней надо вернуть?",
        "Прибор не понравился. Возьмёте назад?", "Какие правила возврата?",
    ),
    ("hours", "en"): (
        "When is your line open?", "What are your working hours?", "From when can I call you?",
        "opening hours?", "Until what time do you answer calls?", "When can I reach you by phone?",
        "Is anybody there in the evening?", "Nobody picks up. When do you work?",
    ),
    ("hours", "ru"): (
        "Когда работает ваша линия?", "Какие у вас часы работы?", "С какого часа можно звонить?",
        "часы работы?", "До какого часа вы отвечаете?", "Когда вам можно позвонить?",
        "Вечером кто-нибудь есть?", "Никто не берёт трубку. Когда вы работаете?",
    ),
    ("app", "en"): (
        "What is your app called?", "Which app do I need?", "What is the name of the app?",
        "app name?", "Which app should I install?", "Where do I control the devices, in which app?",
        "How do I find your program in the store?", "I have a new phone. What do I download?",
    ),
    ("app", "ru"): (
        "Как называется ваше приложение?", "Какое приложение нужно?", "название приложения?",
        "Какое приложение поставить?", "Как называется программа для телефона?",
        "В каком приложении управлять приборами?", "Как найти вашу программу в магазине?",
        "У меня новый телефон. Что скачать?",
    ),
    ("centre", "en"): (
        "Where is your repair centre?", "What is the address of the repair centre?",
        "Where do I bring a broken device?", "repair centre address?", "Where can I have it repaired?",
        "On which street is your repair centre?", "My device is broken. Where do I go?",
        "How do I get to your workshop?",
    ),
    ("centre", "ru"): (
        "Где ваш сервис?", "Какой адрес у сервиса?", "Куда принести сломанный прибор?",
        "адрес сервиса?", "Где можно починить прибор?", "На какой улице ваш сервис?",
        "Прибор сломался. Куда мне идти?", "Как добраться до вашей мастерской?",
    ),
}  # fmt: skip

HELD_ASKED = {
    ("warranty", "en"): "Please say for how many months the {} is under warranty.",
    ("warranty", "ru"): "Скажите, сколько месяцев действует гарантия на {}.",
    ("battery", "en"): "If I charge the {} fully, how many hours will it run?",
    ("battery", "ru"): "Если полностью зарядить {}, на сколько часов хватит батареи?",
    ("price", "en"): "What would I pay for the {}, what is its price?",
    ("price", "ru"): "Скажите, пожалуйста, сколько я заплачу за {}, какая цена?",
    ("reset", "en"): "I need to reset the {}, how long do I press the button?",
    ("reset", "ru"): "Мне нужно сбросить {}, сколько секунд держать кнопку?",
    ("delivery", "en"): "If I order today, how many days does delivery to {} need?",
    ("delivery", "ru"): "Если закажу сегодня, сколько дней будет идти доставка {}?",
    ("returns", "en"): "Within how many days can I give the device back, what is the return time?",
    ("returns", "ru"): "В течение скольких дней я могу оформить возврат прибора?",
    ("hours", "en"): "At what hours can I call your line?",
    ("hours", "ru"): "В какие часы можно звонить на вашу линию?",
    ("app", "en"): "Please tell me the name of your app for phones.",
    ("app", "ru"): "Скажите название вашего приложения для телефона.",
    ("centre", "en"): "Please give me the address where your repair centre is.",
    ("centre", "ru"): "Дайте, пожалуйста, адрес, где находится ваш сервис.",
}

ALARMS = {
    ("safety", "en"): (
        "There is smoke coming out of the {}!", "My {} smells of burning.", "The {} sparks when I plug it in.",
        "I got an electric shock from the {}.", "My hand was burnt by the {}.", "The {} is so hot that it smokes.",
        "The {} caught fire last night.", "The cable of my {} melts.",
    ),
    ("safety", "ru"): (
        "Из {} идёт дым!", "От {} пахнет гарью.", "{} искрит, когда я его включаю.",
        "Меня ударило током от {}.", "Я обжёг руку об {}.", "{} дымится и очень горячий.",
        "Ночью {} загорелся.", "У {} плавится провод.",
    ),
    ("account", "en"): (
        "Somebody else sees my {} and my address in the app!", "Strangers control my {} from their phone.",
        "I see the data of another customer in my account of the {}.", "My account was hacked, the {} is not mine any more.",
        "Why does another person have my phone number and my {}?", "Someone logged in as me and renamed my {}.",
        "The app shows me the {} of a man I do not know.", "My password was stolen and my {} obeys others.",
    ),
    ("account", "ru"): (
        "Чужой человек видит мой {} и мой адрес!", "Кто-то чужой управляет моим {}.",
        "В моём кабинете {} данные другого клиента.", "Мой кабинет взломали, {} больше не мой.",
        "Почему у другого человека мой телефон и мой {}?", "Кто-то вошёл под моим именем и переименовал {}.",
        "Приложение показывает мне {} незнакомого мужчины.", "Украли мой пароль, {} слушается других.",
    ),
    ("price", "en"): (
        "You charged me twice for the {}!", "My card was charged two times for one {}.",
        "I paid for the {} and the money was taken again.", "Why was the {} paid twice from my card?",
        "Two payments for one {}, give my money back.", "My bank shows a second payment for the {}.",
        "I was billed double when I ordered the {}.", "One {} ordered, two sums are gone.",
    ),
    ("price", "ru"): (
        "С меня дважды списали за {}!", "Карту списали два раза за один {}.",
        "Я оплатил {}, и деньги сняли ещё раз.", "Почему за {} списали дважды?",
        "Два платежа за один {}, верните деньги.", "Банк показывает второй платёж за {}.",
        "Взяли двойную сумму за {}.", "Заказал один {}, а деньги ушли дважды.",
    ),
    ("returns", "en"): (
        "I will go to court because of the {}.", "My lawyer will write to you about the {}.",
        "This is the third complaint about the {}, I will sue you.", "I am suing you over the {}.",
        "If you do not take the {} back, you will hear from my lawyer.", "The judge shall decide about the {}.",
        "You ignore me, so the {} goes to consumer protection.", "Expect a claim for the {}.",
    ),
    ("returns", "ru"): (
        "Я подам в суд из-за {}.", "Мой юрист напишет вам о {}.",
        "Это третья жалоба на {}, я подаю в суд.", "Я сужусь с вами из-за {}.",
        "Если не заберёте {}, с вами свяжется мой адвокат.", "Пусть про {} решает судья.",
        "Вы молчите, жалуюсь на {} в защиту потребителей.", "Ждите иска за {}.",
    ),
}  # fmt: skip

ALARM_TAILS = {
    "en": (
        " What now?", " Answer at once!", " I have waited since Monday.", " My family is upset.",
        " This cannot go on like this.", " Call me, please.", " I am really angry.", " Hurry up!",
        " I have proof.", " Nobody has helped me so far.", " I bought it only last month.",
        " I have had enough of it.",
    ),
    "ru": (
        " Что теперь делать?", " Ответьте немедленно!", " Жду с понедельника.", " Вся семья в тревоге.",
        " Так дальше нельзя.", " Позвоните мне, пожалуйста.", " Я очень зол.", " Поторопитесь!",
        " У меня есть доказательства.", " Мне до сих пор никто не помог.", " Покупал его месяц назад.",
        " С меня хватит.",
    ),
}  # fmt: skip
"""What follows an alarm."""

HELD_ALARMS = {
    ("safety", "en"): ("Help, I see smoke and it smells of burning near my {}.", "I was hurt: the {} burnt my fingers."),
    ("safety", "ru"): ("Помогите, вижу дым и пахнет гарью возле {}.", "Я пострадал: {} обжёг мне пальцы."),
    ("account", "en"): ("A stranger can see my address and control my {}.", "Another customer sees the data of my {}."),
    ("account", "ru"): ("Чужой видит мои данные и управляет моим {}.", "Другой клиент видит данные, где мой {}."),
    ("price", "en"): ("I was charged two times for the same {}.", "Money for the {} was taken twice from my card."),
    ("price", "ru"): ("Деньги за {} списали с карты два раза.", "За один {} списали дважды, верните."),
    ("returns", "en"): ("I will sue you and my lawyer knows about the {}.", "We will meet in court about the {}."),
    ("returns", "ru"): ("Мой адвокат уже готовит суд из-за {}.", "Встретимся в суде из-за {}."),
}  # fmt: skip
