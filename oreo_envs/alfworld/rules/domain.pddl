; Household tasks as ALFWorld plays them (Shridhar et al. 2021, arXiv:2010.03768), in our own words: the names of
; predicates, types and actions are those of its games, so that their problems fit; the rules are as short as what a
; player can notice allows. Costs and whether a lamp burns are left out: nothing that is printed or asked for tells.
(define (domain alfred)

(:requirements :adl :typing)

(:types agent location receptacle object rtype otype)

(:predicates
  ; where things are
  (atLocation ?me - agent ?here - location)
  (receptacleAtLocation ?place - receptacle ?there - location)
  (objectAtLocation ?thing - object ?there - location)
  (inReceptacle ?thing - object ?place - receptacle)
  (inReceptacleObject ?thing - object ?bowl - object)
  (wasInReceptacle ?thing - object ?place - receptacle)

  ; what they are
  (receptacleType ?place - receptacle ?sort - rtype)
  (objectType ?thing - object ?kind - otype)
  (canContain ?sort - rtype ?kind - otype)
  (isReceptacleObject ?bowl - object)
  (openable ?place - receptacle)
  (pickupable ?thing - object)
  (moveable ?thing - object)
  (cleanable ?thing - object)
  (heatable ?thing - object)
  (coolable ?thing - object)
  (sliceable ?thing - object)
  (toggleable ?thing - object)

  ; what has been done
  (opened ?place - receptacle)
  (checked ?place - receptacle)
  (examined ?there - location)
  (full ?place - receptacle)
  (isReceptacleObjectFull ?bowl - object)
  (holds ?me - agent ?thing - object)
  (holdsAny ?me - agent)
  (holdsAnyReceptacleObject ?me - agent)
  (isClean ?thing - object)
  (isHot ?thing - object)
  (isCool ?thing - object)
  (isSliced ?thing - object)
  (isToggled ?thing - object)
  (isOn ?thing - object))

; Problems of the data release may speak of these.
(:functions (distance ?here ?there) (total-cost) - number)

; Moving about.

(:action GotoLocation
  :parameters (?me - agent ?here ?there - location ?place - receptacle)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?there))
  :effect (and (not (atLocation ?me ?here)) (atLocation ?me ?there)))

(:action OpenObject
  :parameters (?me - agent ?here - location ?place - receptacle)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?here)
                     (openable ?place) (not (opened ?place)))
  :effect (opened ?place))

(:action CloseObject
  :parameters (?me - agent ?here - location ?place - receptacle)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?here)
                     (openable ?place) (opened ?place))
  :effect (not (opened ?place)))

; One hand: nothing can be taken while something is held.

(:action PickupObject
  :parameters (?me - agent ?here - location ?thing - object ?place - receptacle)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?here)
                     (or (not (openable ?place)) (opened ?place))
                     (inReceptacle ?thing ?place) (pickupable ?thing) (not (holdsAny ?me)))
  :effect (and (holds ?me ?thing) (holdsAny ?me)
               (not (inReceptacle ?thing ?place)) (not (objectAtLocation ?thing ?here))))

(:action PutObject
  :parameters (?me - agent ?here - location ?thing - object ?place - receptacle ?kind - otype ?sort - rtype)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?here)
                     (or (not (openable ?place)) (opened ?place))
                     (objectType ?thing ?kind) (receptacleType ?place ?sort) (canContain ?sort ?kind)
                     (holds ?me ?thing))
  :effect (and (inReceptacle ?thing ?place) (objectAtLocation ?thing ?here)
               (not (holds ?me ?thing)) (not (holdsAny ?me))))

; Doing something to a thing. The door of a fridge or a microwave may be shut meanwhile.

(:action CleanObject
  :parameters (?me - agent ?here - location ?thing - object ?place - receptacle)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?here)
                     (or (receptacleType ?place SinkBasinType) (receptacleType ?place SinkType))
                     (holds ?me ?thing) (cleanable ?thing))
  :effect (isClean ?thing))

(:action HeatObject
  :parameters (?me - agent ?here - location ?thing - object ?place - receptacle)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?here)
                     (receptacleType ?place MicrowaveType)
                     (holds ?me ?thing) (heatable ?thing))
  :effect (and (isHot ?thing) (not (isCool ?thing))))

(:action CoolObject
  :parameters (?me - agent ?here - location ?thing - object ?place - receptacle)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?here)
                     (receptacleType ?place FridgeType)
                     (holds ?me ?thing) (coolable ?thing))
  :effect (and (isCool ?thing) (not (isHot ?thing))))

(:action SliceObject
  :parameters (?me - agent ?here - location ?thing ?knife - object)
  :precondition (and (atLocation ?me ?here) (objectAtLocation ?thing ?here) (sliceable ?thing)
                     (holds ?me ?knife) (or (objectType ?knife KnifeType) (objectType ?knife ButterKnifeType)))
  :effect (isSliced ?thing))

(:action ToggleObject
  :parameters (?me - agent ?here - location ?thing - object ?place - receptacle)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?here)
                     (inReceptacle ?thing ?place) (toggleable ?thing))
  :effect (isToggled ?thing))

; Asking. The planner drops an action that changes nothing, so these leave a mark that nothing reads.

(:action look
  :parameters (?me - agent ?here - location)
  :precondition (atLocation ?me ?here)
  :effect (examined ?here))

(:action inventory
  :parameters (?me - agent ?here - location)
  :precondition (atLocation ?me ?here)
  :effect (examined ?here))

(:action help
  :parameters (?me - agent ?here - location)
  :precondition (atLocation ?me ?here)
  :effect (examined ?here))

(:action examineReceptacle
  :parameters (?me - agent ?here - location ?place - receptacle)
  :precondition (and (atLocation ?me ?here) (receptacleAtLocation ?place ?here))
  :effect (checked ?place))

(:action examineObject
  :parameters (?me - agent ?here - location ?thing - object)
  :precondition (and (atLocation ?me ?here) (holds ?me ?thing))
  :effect (examined ?here))
)
